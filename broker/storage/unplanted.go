//go:build !planted

package storage

// planted: no rule is broken.
func planted(string) bool { return false }
