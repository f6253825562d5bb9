//go:build race

package nodetest

// raceEnabled: the tests run under the race detector, so the program does too.
const raceEnabled = true
