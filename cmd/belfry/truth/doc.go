// Package truth holds the test that compares every documented metric of a real node with
// what clients did to it and with what the machine itself says. It has no code beside tests.
package truth
