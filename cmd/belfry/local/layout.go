package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// layout is what cluster.json holds.
type layout struct {
	Version  int               `json:"version"`
	Voters   []int             `json:"voters"`             // the first controllers
	Settings map[string]string `json:"settings,omitempty"` // of every node, over the harness's own
	Anywhere bool              `json:"anywhere,omitempty"` // see Cluster.Anywhere
	Nodes    []address         `json:"nodes"`
}

// address says where a node listens, HOST:PORT each.
type address struct {
	ID         int    `json:"id"`
	Kafka      string `json:"kafka"`
	Controller string `json:"controller"`
	Metrics    string `json:"metrics"`
}

const (
	layoutVersion = 1
	layoutFile    = "cluster.json"
)

// errNone means that the directory holds no cluster.
var errNone = errors.New("there is no cluster")

// readLayout reads the directory's cluster.json.
//
// Errors: errNone; the file's.
func readLayout(dir string) (layout, error) {
	var l layout
	path := filepath.Join(dir, layoutFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, fmt.Errorf("%w in %q; make one with `belfry local up --dir %s`", errNone, dir, dir)
	}
	if err != nil {
		return l, fmt.Errorf("cannot read the cluster's layout: %w", err)
	}
	if err := json.Unmarshal(b, &l); err != nil {
		return l, fmt.Errorf("cannot read the cluster's layout %q: %w", path, err)
	}
	if l.Version != layoutVersion {
		return l, fmt.Errorf("cannot read the cluster's layout %q: it has version %d, this program knows %d", path, l.Version, layoutVersion)
	}
	return l, nil
}

// write replaces cluster.json as a whole.
func (l layout) write(dir string) error {
	b, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	return replace(filepath.Join(dir, layoutFile), append(b, '\n'))
}

// replace writes a file so that a reader sees the old or the new one.
func replace(path string, b []byte) error {
	next := path + ".new"
	if err := os.WriteFile(next, b, 0o600); err != nil {
		return fmt.Errorf("cannot write %q: %w", path, err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("cannot write %q: %w", path, err)
	}
	return nil
}

// node gives the address of one node.
func (l layout) node(id int) (address, error) {
	for _, n := range l.Nodes {
		if n.ID == id {
			return n, nil
		}
	}
	return address{}, fmt.Errorf("there is no node %d in this cluster: it has %v", id, l.ids())
}

func (l layout) ids() []int {
	ids := make([]int, len(l.Nodes))
	for i, n := range l.Nodes {
		ids[i] = n.ID
	}
	return ids
}

// votersOf gives how many of so many nodes are the first controllers: an odd number, and
// no more than five, as each decision waits for most of them.
func votersOf(nodes int) int {
	switch {
	case nodes >= 5:
		return 5
	case nodes >= 3:
		return 3
	}
	return 1
}

// First ports of each kind; a node takes the next one that is free.
const (
	kafkaPort      = 9092
	controllerPort = 9192
	metricsPort    = 9308
)

// place gives a new node's addresses: on loopback, ports that nobody listens on and that no other
// node of the layout has.
func (l layout) place(id int) (address, error) {
	taken := map[string]bool{}
	for _, n := range l.Nodes {
		taken[n.Kafka], taken[n.Controller], taken[n.Metrics] = true, true, true
	}
	a := address{ID: id}
	for _, want := range []struct {
		at   *string
		port int
	}{{&a.Kafka, kafkaPort}, {&a.Controller, controllerPort}, {&a.Metrics, metricsPort}} {
		first := want.port
		if l.Anywhere {
			first = 0
		}
		at, err := freeFrom(first, taken)
		if err != nil {
			return a, err
		}
		*want.at = at
	}
	return a, nil
}

// searched is how many ports after the first are tried.
const searched = 100

// freeFrom tries one port after the other from the first; after port 0 comes any that the system gives.
func freeFrom(first int, taken map[string]bool) (string, error) {
	for i := range searched {
		port := first
		if first != 0 {
			port += i
		}
		door, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		at := door.Addr().String()
		if err := door.Close(); err != nil {
			return "", err
		}
		if taken[at] {
			continue
		}
		taken[at] = true
		return at, nil
	}
	return "", fmt.Errorf("cannot find a free port from %d to %d", first, first+searched-1)
}

func nodeDir(dir string, id int) string { return filepath.Join(dir, "node-"+strconv.Itoa(id)) }
func configOf(dir string, id int) string {
	return filepath.Join(nodeDir(dir, id), "node.yaml")
}
func logOf(dir string, id int) string { return filepath.Join(nodeDir(dir, id), "output.log") }
func pidOf(dir string, id int) string { return filepath.Join(nodeDir(dir, id), "pid") }

// settingsOf gives the settings of one node.
func (l layout) settingsOf(dir string, a address) map[string]string {
	s := map[string]string{
		"node.id":      strconv.Itoa(a.ID),
		"listeners":    "PLAINTEXT://" + a.Kafka,
		"agent.listen": a.Metrics,
		"log.dirs":     filepath.Join(nodeDir(dir, a.ID), "data"),
		// Of a node alone, too: others may join it.
		"controller.listener": a.Controller,
	}
	if slices.Contains(l.Voters, a.ID) && len(l.Voters) > 1 {
		s["controller.quorum.voters"] = l.voters()
	}
	return s
}
