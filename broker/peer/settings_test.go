package peer

import (
	"slices"
	"testing"

	"github.com/belfry-mq/belfry/broker/metadata"
)

// FuzzReadSettings: whatever comes, it is read without a fault, and what was read is
// written and read as the same again.
func FuzzReadSettings(f *testing.F) {
	whole := AppendSettings(nil, []metadata.Setting{{Name: "min.insync.replicas", Value: "2"}, {Name: "log.retention.ms"}})
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 'a'})
	f.Fuzz(func(t *testing.T, b []byte) {
		all := ReadSettings(b)
		if again := ReadSettings(AppendSettings(nil, all)); !slices.Equal(all, again) {
			t.Errorf("%q came back as %q", all, again)
		}
	})
	if got := ReadSettings(whole); len(got) != 2 || got[0].Value != "2" || got[1].Name != "log.retention.ms" {
		f.Errorf("read %q", got)
	}
	if got := ReadSettings(whole[:len(whole)-1]); len(got) != 1 {
		f.Errorf("of a cut one %q is read", got)
	}
}
