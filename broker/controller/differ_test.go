package controller

import (
	"strings"
	"testing"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/metadata"
)

func fileOf(t *testing.T, text string) *config.Values {
	t.Helper()
	v, err := config.Read(strings.NewReader(text), "node.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestDifferences(t *testing.T) {
	img := metadata.Empty()
	fold := func(rs ...metadata.Record) {
		t.Helper()
		next, err := img.Fold(img.Index()+1, rs)
		if err != nil {
			t.Fatal(err)
		}
		img = next
	}
	want := func(what string, lines ...string) {
		t.Helper()
		var got []string
		for _, d := range Differences(img) {
			got = append(got, d.String())
		}
		if strings.Join(got, "\n") != strings.Join(lines, "\n") {
			t.Errorf("%s: got\n%s", what, strings.Join(got, "\n"))
		}
	}
	broker := func(id metadata.BrokerID, file string) metadata.Broker {
		return metadata.Broker{ID: id, Epoch: int64(img.Index()) + 1, Settings: UniformOf(fileOf(t, file))}
	}
	fold(&metadata.BrokerRegistered{Broker: broker(1, "node.id: 1\nmin.insync.replicas: 2\n")})
	fold(&metadata.BrokerRegistered{Broker: broker(2, "node.id: 2\nmin.insync.replicas: 2\n")})
	want("the same in other words")

	fold(&metadata.BrokerRegistered{Broker: broker(3, "node.id: 3\nlog.retention.ms: 1000\n")})
	end := "; give every node the same value in its file and restart it"
	retention := `log.retention.ms is not set on node 1, not set on node 2, "1000" on node 3` + end
	want("another one", retention, `min.insync.replicas is "2" on node 1, "2" on node 2, "1" on node 3`+end)

	// What is set at run time for all makes them equal; for one, different.
	every := metadata.Resource{Kind: metadata.BrokerResource}
	fold(&metadata.ConfigSet{Resource: every, Name: "min.insync.replicas", Value: "3"})
	want("set for every broker", retention)
	fold(&metadata.ConfigSet{Resource: metadata.Resource{Kind: metadata.BrokerResource, Name: "2"}, Name: "min.insync.replicas", Value: "1"})
	want("set for one broker", retention, `min.insync.replicas is "3" on node 1, "1" on node 2, "3" on node 3`+end)
	fold(&metadata.ConfigRemoved{Resource: metadata.Resource{Kind: metadata.BrokerResource, Name: "2"}, Name: "min.insync.replicas"})

	fold(&metadata.BrokerFenced{ID: 3, Epoch: img.Broker(3).Epoch})
	want("the other one is out of service")

	forged := comparableOf([]metadata.Setting{{Name: "min.insync.replicas", Value: "2"}, {Name: "min.insync.replicas", Value: "3"}, {Name: "log.dirs", Value: "/"}, {Name: "x"}, {Name: "version", Value: strings.Repeat("v", maxValue+1)}})
	if len(forged) != 1 || forged[0].Value != "2" {
		t.Errorf("kept %v", forged)
	}
	fold(&metadata.BrokerRegistered{Broker: metadata.Broker{ID: 4, Epoch: int64(img.Index()) + 1}})
	want("one that does not tell")
}
