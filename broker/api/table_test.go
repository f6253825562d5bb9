package api

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

func TestTableIsWhatTheCodecKnows(t *testing.T) {
	for key, r := range served() {
		req := kmsg.RequestForKey(key)
		if req == nil {
			t.Errorf("key %d is served and unknown to the codec", key)
			continue
		}
		if r.max > req.MaxVersion() {
			t.Errorf("%s: version %d is served, the codec knows %d", kmsg.NameForKey(key), r.max, req.MaxVersion())
		}
	}
}

func TestInstanceVersionCaps(t *testing.T) {
	tests := []struct {
		version                string
		produce, fetch, groups int16 // DeleteGroups
		cluster                bool  // DescribeCluster is served
	}{
		{"", 13, 18, 2, true},
		{"newest", 13, 18, 2, true},
		{"2.7", 8, 12, 2, false},
		{"2.3.0", 7, 11, 1, false},
		{"1.1.0", 5, 7, 0, false},
	}
	for _, tt := range tests {
		got, err := newTable(tt.version)
		if err != nil {
			t.Fatalf("%q: %v", tt.version, err)
		}
		_, cluster := got[kmsg.DescribeCluster.Int16()]
		if p, f, g := got[0].max, got[1].max, got[42].max; p != tt.produce || f != tt.fetch || g != tt.groups || cluster != tt.cluster {
			t.Errorf("%q: Produce %d, Fetch %d, DeleteGroups %d, DescribeCluster %v; want %+v", tt.version, p, f, g, cluster, tt)
		}
	}
	if _, err := newTable("9.9.9"); err == nil {
		t.Error("version 9.9.9 is taken")
	}
}

// Whatever release caps the instance, it offers what is served here and was there.
func TestEveryReleaseCaps(t *testing.T) {
	for _, version := range kversion.VersionStrings() {
		caps := kversion.FromString(version)
		got, err := newTable(version)
		if err != nil {
			t.Fatalf("%s: %v", version, err)
		}
		for key, r := range served() {
			want, there := caps.LookupMaxKeyVersion(key)
			if capped, ok := got[key]; ok != there || ok && capped.max != min(want, r.max) {
				t.Errorf("%s: %s up to %d (%v), the release has %d (%v)", version, kmsg.NameForKey(key), capped.max, ok, want, there)
			}
		}
	}
}
