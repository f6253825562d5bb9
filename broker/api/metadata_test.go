package api

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
)

// TestUnmade: a client that asks for a topic between two controllers is told to ask again, in words that it knows.
func TestUnmade(t *testing.T) {
	for code, want := range map[*kerr.Error]*kerr.Error{
		kerr.NotController: kerr.LeaderNotAvailable, kerr.RequestTimedOut: kerr.LeaderNotAvailable,
		kerr.InvalidReplicationFactor: kerr.InvalidReplicationFactor, kerr.PolicyViolation: kerr.PolicyViolation,
	} {
		if got := unmade(code.Code); got != want.Code {
			t.Errorf("%s is told as %v, want %s", code.Message, kerr.ErrorForCode(got), want.Message)
		}
	}
}
