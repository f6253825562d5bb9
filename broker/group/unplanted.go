//go:build !planted

package group

// planted: no rule is broken.
func planted(string) bool { return false }
