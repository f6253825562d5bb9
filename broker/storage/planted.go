//go:build planted

package storage

import "os"

// planted tells whether a rule is broken on purpose, for the tests that must see it.
func planted(flaw string) bool { return os.Getenv("BELFRY_PLANTED") == flaw }
