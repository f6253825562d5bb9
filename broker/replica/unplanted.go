//go:build !planted

package replica

// planted: no rule is broken.
func planted() flaws { return flaws{} }
