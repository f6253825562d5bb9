// Package crash holds the tests that take a real node down under load, again and again, and
// prove afterwards that no acknowledged message was lost and no corrupt one served. It has
// no code of its own.
package crash
