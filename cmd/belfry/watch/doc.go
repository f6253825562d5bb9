// Package watch proves the alarm road from end to end with the real program: a node, or an agent
// beside Apache Kafka, and receivers that take, refuse, hang or come late; what people read; what
// a kill -9 at any moment changes; and what a real Prometheus makes of it. It holds tests only.
package watch
