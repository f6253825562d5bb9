package main

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/belfry-mq/belfry/"

// rooms gives every room its layer. A room may import only rooms of strictly lower layers.
var rooms = map[string]int{
	"broker/record":          0,
	"broker/storage/disk":    0,
	"broker/topic":           0,
	"broker/config":          1,
	"broker/metadata":        1,
	"broker/stats":           1,
	"broker/controller":      2,
	"broker/quota":           2,
	"broker/storage":         2,
	"broker/wire":            2,
	"broker/peer":            3,
	"broker/quorum":          4,
	"broker/replica":         4,
	"broker/journal":         5,
	"broker/group":           6,
	"broker/txn":             6,
	"broker/api":             7,
	"broker":                 8,
	"broker/brokertest/port": 0,
	"broker/brokertest":      9,
	"broker/golden":          12, // above all: only tests import it

	"agent/balance":        0,
	"agent/checkpoint":     0,
	"agent/metric":         0,
	"agent/volume":         0,
	"rules":                0,
	"agent/audit":          1,
	"agent/gossip":         1,
	"agent/guard":          1,
	"agent/sampler":        1,
	"agent/task":           1,
	"dashboards":           1,
	"exporters/prometheus": 1,
	"agent/alarm":          2,
	"agent/cluster":        2,
	"agent/collect":        3,
	"agent/notify":         3,
	"agent/outage":         3,
	"agent":                4,
	"dashboards/promtest":  9,

	"cmd/belfry/bench/load":    7,
	"cmd/belfry/bench/chart":   8,
	"cmd/belfry/bench/limit":   8,
	"cmd/belfry/bench/null":    8,
	"cmd/belfry/bench/peer":    8,
	"cmd/belfry/bench/profile": 8,
	"cmd/belfry/ledger":        8,
	"cmd/belfry/local":         8,
	"cmd/belfry/sink":          8,
	"cmd/belfry/bench":         9,
	"cmd/belfry/bench/nats":    9,
	"cmd/belfry/demo":          9,
	"cmd/belfry/nodetest":      9,
	"cmd/belfry/roll":          9,
	"cmd/belfry":               10,
	"cmd/belfry/chaos":         11,
	"cmd/belfry/compat":        11,
	"cmd/belfry/crash":         11,
	"cmd/belfry/truth":         11,
	"cmd/belfry/watch":         11,
}

// walls are libraries that only some rooms may import. Tests may import the Kafka client.
var walls = map[string][]string{
	"github.com/hashicorp/raft":             {"broker/quorum"},
	"github.com/prometheus/alertmanager":    {"agent/notify"},
	"github.com/hashicorp/memberlist":       {"agent/gossip"},
	"github.com/twmb/franz-go/pkg/kgo":      {"agent/cluster", "cmd/belfry"},
	"github.com/twmb/franz-go/pkg/kadm":     {"agent/cluster", "cmd/belfry"},
	"github.com/twmb/franz-go/pkg/kmsg":     {"agent/cluster", "broker/wire", "broker/peer", "broker/api", "broker/group", "broker/txn", "broker/journal", "cmd/belfry"},
	"github.com/twmb/franz-go/pkg/kversion": {"broker/api"},
	"github.com/shirou/gopsutil":            {"agent/collect", "agent/volume"},
}

type file struct {
	room    string
	path    string
	test    bool
	imports []string
	doc     bool
	name    string
}

func sources(t *testing.T) []file {
	t.Helper()
	root := filepath.Join("..", "..")
	var all []file
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2 || d.Name() == "node_modules" || d.Name() == "testdata" || d.Name() == "belfry-data") {
			return filepath.SkipDir
		}
		if d.IsDir() && path != root {
			// A module of its own is no room: nothing of ours is linked with it.
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil {
				return filepath.SkipDir
			}
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		f := file{room: filepath.ToSlash(filepath.Dir(rel)), path: rel, test: strings.HasSuffix(path, "_test.go"), doc: parsed.Doc != nil, name: parsed.Name.Name}
		for _, i := range parsed.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			f.imports = append(f.imports, p)
		}
		all = append(all, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Fatalf("only %d source files found", len(all))
	}
	return all
}

func TestRoomsImportOnlyLowerLayers(t *testing.T) {
	for _, f := range sources(t) {
		layer, ok := rooms[f.room]
		if !ok {
			t.Errorf("%s: room %s is not in the table", f.path, f.room)
			continue
		}
		if f.test {
			continue // a room's tests may build their world from any room
		}
		for _, imported := range f.imports {
			room, ours := strings.CutPrefix(imported, module)
			if !ours {
				continue
			}
			other, ok := rooms[room]
			switch {
			case !ok:
				t.Errorf("%s imports %s, which is not in the table", f.path, room)
			case other >= layer:
				t.Errorf("%s (layer %d) imports %s (layer %d): only strictly lower layers", f.path, layer, room, other)
			}
		}
	}
}

func TestHalvesStayApart(t *testing.T) {
	ofBroker := []string{"broker/stats", "broker/topic"}
	const ofTests = "broker/brokertest/port" // of both halves
	for _, f := range sources(t) {
		if f.test || strings.HasPrefix(f.room, "cmd/") {
			continue
		}
		for _, imported := range f.imports {
			room, ours := strings.CutPrefix(imported, module)
			if !ours || room == ofTests {
				continue
			}
			fromBroker, toBroker := strings.HasPrefix(f.room, "broker"), strings.HasPrefix(room, "broker")
			switch {
			case fromBroker && !toBroker:
				t.Errorf("%s imports %s: the broker knows nothing of the agent's half", f.path, room)
			case !fromBroker && toBroker && (!strings.HasPrefix(f.room, "agent") || !slices.Contains(ofBroker, room)):
				t.Errorf("%s imports %s: the agent's half reads only %s", f.path, room, strings.Join(ofBroker, ", "))
			case strings.HasPrefix(f.room, "exporters/") && room != "agent/metric":
				t.Errorf("%s imports %s: exporters know only agent/metric", f.path, room)
			}
		}
	}
}

func TestLibrariesStayBehindTheirWalls(t *testing.T) {
	for _, f := range sources(t) {
		for _, imported := range f.imports {
			for lib, allowed := range walls {
				if imported != lib && !strings.HasPrefix(imported, lib+"/") && !strings.HasPrefix(imported, lib+"-") {
					continue
				}
				if f.test && strings.HasPrefix(lib, "github.com/twmb/") {
					continue
				}
				room := f.room
				if strings.HasPrefix(room, "cmd/belfry") {
					room = "cmd/belfry"
				}
				if !slices.Contains(allowed, room) {
					t.Errorf("%s imports %s: only %s may", f.path, imported, strings.Join(allowed, ", "))
				}
			}
		}
	}
}

func TestOnePackageCommentARoom(t *testing.T) {
	comments := map[string]int{}
	for _, f := range sources(t) {
		if f.test {
			continue
		}
		if f.doc {
			comments[f.room]++
		} else {
			comments[f.room] += 0
		}
	}
	for room, n := range comments {
		if n != 1 {
			t.Errorf("room %s has %d package comments, want 1", room, n)
		}
	}
}

// longestFile is the hard limit of a source file in lines.
const longestFile = 800

func TestFilesStayShort(t *testing.T) {
	for _, f := range sources(t) {
		b, err := os.ReadFile(filepath.Join("..", "..", f.path))
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(b, []byte("\n")); n > longestFile && !f.test {
			t.Errorf("%s has %d lines, at most %d", f.path, n, longestFile)
		}
	}
}

// longestFunc is the hard limit of a function in lines.
const longestFunc = 70

func TestFunctionsStayShort(t *testing.T) {
	for _, f := range sources(t) {
		if f.test {
			continue
		}
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, filepath.Join("..", "..", f.path), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			if n := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1; n > longestFunc {
				t.Errorf("%s: %s has %d lines, at most %d", f.path, fn.Name.Name, n, longestFunc)
			}
		}
	}
}
