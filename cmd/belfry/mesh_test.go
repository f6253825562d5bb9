package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/belfry-mq/belfry/broker"
	"github.com/belfry-mq/belfry/broker/config"
)

// TestWhereAgentsMeet: never beyond loopback unless the settings say so, and not at all where there is nobody to meet.
func TestWhereAgentsMeet(t *testing.T) {
	member := map[string]string{"node.id": "1", "controller.quorum.voters": "1@127.0.0.1:9192,2@127.0.0.1:9193,3@127.0.0.1:9194"}
	for name, c := range map[string]struct {
		set  map[string]string
		at   string // of the mesh; "" = there is none
		says string // the log, or the error
	}{
		"alone":             {},
		"alone but set":     {set: map[string]string{"agent.cluster.listen": "127.0.0.1:0"}, says: "agent.cluster.listen is not used"},
		"loopback":          {set: member, at: "127.0.0.1:"},
		"set":               {set: with(member, "agent.cluster.listen", "127.0.0.2:0"), at: "127.0.0.2:"},
		"beyond":            {set: with(member, "listeners", "PLAINTEXT://0.0.0.0:0"), says: "set agent.cluster.listen"},
		"beyond, no secret": {set: with(member, "agent.cluster.listen", "192.0.2.7:9310"), says: "agent.cluster.secret"},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := config.Defaults().With(with(c.set, "log.dirs", t.TempDir()))
			if err != nil {
				t.Fatal(err)
			}
			b, err := broker.New(broker.Options{Values: v})
			if err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			mesh, err := openMesh(v, b, slog.New(slog.NewTextHandler(&log, nil)))
			said := log.String()
			if err != nil {
				said += err.Error()
			}
			if c.says == "" && said != "" || !strings.Contains(said, c.says) {
				t.Errorf("says %q, want %q", said, c.says)
			}
			switch {
			case mesh == nil && c.at != "":
				t.Error("there is no mesh")
			case mesh != nil:
				if c.at == "" || !strings.HasPrefix(mesh.Addr(), c.at) {
					t.Errorf("the mesh is at %s, want %s", mesh.Addr(), c.at)
				}
				if err := mesh.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func with(set map[string]string, name, value string) map[string]string {
	all := map[string]string{name: value}
	for n, v := range set {
		all[n] = v
	}
	return all
}
