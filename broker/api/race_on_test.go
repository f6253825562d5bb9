//go:build race

package api_test

// raced says that the race detector watches. It has pools throw away part of what they are given.
const raced = true
