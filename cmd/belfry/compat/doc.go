// Package compat holds the tests of unchanged clients and tools against a real node:
// Apache Kafka's own command-line tools, kcat, Python, Go. It has no code of its own.
package compat
