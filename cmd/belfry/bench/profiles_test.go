package bench

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/belfry-mq/belfry/cmd/belfry/bench/peer"
)

// TestProfiles measures three loads whose lines have missed their goals, and no others.
func TestProfiles(t *testing.T) {
	o, err := small(t).filled()
	if err != nil {
		t.Fatal(err)
	}
	o.Profiles = filepath.Join(t.TempDir(), "profiles")
	r := &run{o: o, res: newResult(o)}
	for _, id := range []string{idProduce1K, idAgentRate} {
		r.res.note(id, peer.Belfry, 1)
		r.res.note(id, limitColumn, 100)
	}
	r.res.note(idClusterProduce, peer.Belfry, 1)
	r.res.note(idClusterProduce, peer.Kafka, 100)
	r.res.note(idProduceFsync, peer.Belfry, 100)
	r.res.note(idProduceFsync, limitColumn, 100)
	if err := r.profiles(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(r.res.Profiles) != 3 {
		t.Fatalf("profiles of %+v", r.res.Profiles)
	}
	for i, id := range []string{idProduce1K, idAgentRate, idClusterProduce} {
		p := r.res.Profiles[i]
		if p.Lines[0] != id || p.Busy <= 0 || p.Broker < 0 || p.Broker > 1 {
			t.Errorf("got %+v", p)
		}
	}
	// Why only this: what is idle or short gives no samples.
	if p := r.res.Profiles[0]; len(p.ClientTime) == 0 {
		t.Errorf("the client did nothing: %+v", p)
	}
	if rows := r.res.profileRows(); len(rows) != 3 || rows[0][0] != "produce, acks=all" || rows[0][4] == "" {
		t.Errorf("rows %q", rows)
	}
	for _, name := range []string{"produce-1-KB-broker", "produce-1-KB-client", "samples-and-scrapes-broker", "samples-and-scrapes-client", "3-nodes-produce-broker-1", "3-nodes-produce-broker-3", "3-nodes-produce-client"} {
		if info, err := os.Stat(filepath.Join(o.Profiles, name+".pprof")); err != nil || info.Size() == 0 {
			t.Errorf("%s is not kept: %v", name, err)
		}
	}
	empty(t, o.Dir)
}
