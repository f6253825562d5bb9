package compat

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The page COMPATIBILITY.md is assembled from parts, so that each run writes its own only:
// page/clients/DRIVER-VERSION.tsv (page/clients3 for three brokers), page/tools.md, page/suites.md.
const page = "COMPATIBILITY.md"

// parts are the hand-kept or generated texts that follow the table of clients, in order.
var parts = []string{"tools", "suites"}

// keepResults writes what one client's run gave.
func keepResults(t *testing.T, s stage, c client, found map[string]result) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join("page", s.kept), 0o755); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "date\t%s\n", time.Now().UTC().Format(time.DateOnly))
	for _, feature := range s.features {
		if r, ok := found[feature]; ok {
			fmt.Fprintf(&b, "%s\t%s\t%s\n", feature, r.verdict, r.why)
		}
	}
	save(t, filepath.Join("page", s.kept, c.id()+".tsv"), b.String())
}

// writePart keeps a section of the page, which begins with its own heading, and writes the page again.
func writePart(t *testing.T, name, text string) {
	t.Helper()
	save(t, filepath.Join("page", name+".md"), text)
	save(t, page, assemble(t))
}

func save(t *testing.T, path, text string) {
	t.Helper()
	// Why: clients run side by side, and a reader never sees half a page.
	part, err := os.CreateTemp(filepath.Dir(path), ".part-*")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := part.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(part.Chmod(0o644), part.Close(), os.Rename(part.Name(), path)); err != nil {
		t.Fatal(err)
	}
}

// row is one client's line of the table.
type row struct {
	client client
	date   string
	found  map[string]result
}

func assemble(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("<!-- Written by make compat from the parts in the folder page: do not edit. -->\n# Compatibility\n\n## Clients\n\n" +
		"Each client library, unchanged, against a node: ✓ works, ✗ fails, – the client does not have it, blank: not run.\n" +
		"What each feature means is in [the tests](doc.go).\n\n")
	b.WriteString(clientTable(features, readRows(t, oneBroker)))
	b.WriteString("\n## Clients against three brokers\n\n" +
		"The same programs against a cluster of three: topics of three replicas, `min.insync.replicas=2`, every node a voter. " +
		"For the last feature, failover, the leader of a partition that is being written and read is ended with kill -9 and started again.\n\n")
	b.WriteString(clientTable(clusterFeatures, readRows(t, threeBrokers)))
	for _, name := range parts {
		text, err := os.ReadFile(filepath.Join("page", name+".md"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString("\n" + strings.TrimSpace(string(text)) + "\n")
	}
	return b.String()
}

// readRows gives what the last run of each client on a stage gave.
func readRows(t *testing.T, s stage) []row {
	t.Helper()
	var rows []row
	for _, c := range allClients(t) {
		text, err := os.ReadFile(filepath.Join("page", s.kept, c.id()+".tsv"))
		if errors.Is(err, fs.ErrNotExist) {
			rows = append(rows, row{client: c}) // not yet run
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		head, body, _ := strings.Cut(string(text), "\n")
		date, isDate := strings.CutPrefix(head, "date\t")
		found, err := readResults(body)
		if err != nil || !isDate {
			t.Fatalf("cannot read the kept results of %s: %v", c.id(), err)
		}
		rows = append(rows, row{c, date, found})
	}
	return rows
}

// clientTable draws clients against features, with the reasons as numbered notes below.
func clientTable(columns []string, rows []row) string {
	var b strings.Builder
	b.WriteString("| client | " + strings.Join(columns, " | ") + " | run on |\n|" + strings.Repeat(" --- |", len(columns)+2) + "\n")
	notes := map[string]int{}
	var order []string
	for _, r := range rows {
		cells := []string{r.client.name}
		for _, feature := range columns {
			is, ok := r.found[feature]
			cell := map[string]string{"ok": "✓", "fail": "✗", "none": "–"}[is.verdict]
			if ok && is.why != "" {
				if notes[is.why] == 0 {
					order = append(order, is.why)
					notes[is.why] = len(order)
				}
				cell += fmt.Sprintf("<sup>%d</sup>", notes[is.why])
			}
			cells = append(cells, cell)
		}
		b.WriteString("| " + strings.Join(append(cells, r.date), " | ") + " |\n")
	}
	for i, note := range order {
		fmt.Fprintf(&b, "%s%d. %s\n", map[bool]string{true: "\n"}[i == 0], i+1, note)
	}
	return b.String()
}

// TestPage: the page is what its parts say. The long form writes it.
func TestPage(t *testing.T) {
	want := assemble(t)
	if long() {
		save(t, page, want)
		return
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what its parts in the folder page say; write it with BELFRY_LONG=1 go test -run TestPage ./cmd/belfry/compat", page)
	}
}

func TestClientTable(t *testing.T) {
	ok, why := result{verdict: "ok"}, "too | old"
	rows := []row{
		{client{name: "A 1"}, "2026-01-02", map[string]result{"create-topic": ok, "headers": {"none", why}, "tombstone": {"none", why}, "idempotent": {"fail", "broke"}}},
		{client: client{name: "B 2"}},
	}
	got := clientTable(features, rows)
	want := "| A 1 | ✓ |  |  |  |  |  | ✗<sup>1</sup> |  |  |  |  |  |  |  | –<sup>2</sup> | –<sup>2</sup> |  |  |  | 2026-01-02 |\n| B 2 |" + strings.Repeat("  |", len(features)) + "  |\n\n1. broke\n2. too | old\n"
	if !strings.HasSuffix(got, want) {
		t.Errorf("got\n%s\nwant at its end\n%s", got, want)
	}
}
