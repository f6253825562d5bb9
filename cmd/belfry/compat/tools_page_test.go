package compat

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The results of the tools are kept one file a tool and release, page/tools/TOOL@RELEASE, so
// that a run of some of them replaces only theirs: "date TAB verdict TAB reason".
var toolResults = filepath.Join("page", "tools")

// keepTool writes into the page, in the long form and when the test ends, whether the test
// passed for a tool of a release.
func keepTool(t *testing.T, release, tool string) {
	t.Helper()
	t.Cleanup(func() {
		verdict := "✓"
		if t.Failed() {
			verdict = "✗"
		}
		saveTool(t, release, tool, verdict, "")
	})
}

// saveTool keeps one cell of the table, and makes the page again. A run against another server
// than a node says nothing about the node.
func saveTool(t *testing.T, release, tool, verdict, why string) {
	t.Helper()
	if !long() || os.Getenv(peerVariable) != "" {
		return
	}
	if err := os.MkdirAll(toolResults, 0o755); err != nil {
		t.Fatal(err)
	}
	name := strings.ReplaceAll(tool, "/", "_") + "@" + release
	save(t, filepath.Join(toolResults, name), fmt.Sprintf("%s\t%s\t%s\n", time.Now().UTC().Format(time.DateOnly), verdict, why))
	writePart(t, "tools", toolTable(t))
}

// cell is one result.
type cell struct{ date, verdict, why string }

// toolTable makes the section of the page from what is kept.
func toolTable(t *testing.T) string {
	t.Helper()
	entries, err := os.ReadDir(toolResults)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	cells, oldest := map[string]map[string]cell{}, ""
	releases := slices.Clone(toolReleases)
	for _, e := range entries {
		tool, release, _ := strings.Cut(e.Name(), "@")
		text, err := os.ReadFile(filepath.Join(toolResults, e.Name()))
		f := strings.Split(strings.TrimRight(string(text), "\n"), "\t")
		if err != nil || len(f) != 3 {
			t.Fatalf("cannot read the kept result %q: %v", e.Name(), err)
		}
		if cells[tool] == nil {
			cells[tool] = map[string]cell{}
		}
		cells[tool][release] = cell{f[0], f[1], f[2]}
		if oldest == "" || f[0] < oldest {
			oldest = f[0]
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "## Tools of Apache Kafka, Streams, Connect\n\nUnchanged jars of three releases against one node, each with what it printed compared; runs since %s.\n✓ works, ✗ does not, – there is no such thing in that release.\n\n", oldest)
	fmt.Fprintf(&b, "| tool | %s |\n|---|%s\n", strings.Join(releases, " | "), strings.Repeat("---|", len(releases)))
	var notes []string
	for _, tool := range slices.Sorted(maps.Keys(cells)) {
		fmt.Fprintf(&b, "| %s |", tool)
		for _, release := range releases {
			c := cells[tool][release]
			mark := ""
			if c.why != "" {
				at := slices.Index(notes, c.why)
				if at < 0 {
					notes, at = append(notes, c.why), len(notes)
				}
				mark = fmt.Sprintf(" <sup>%c</sup>", 'a'+at)
			}
			fmt.Fprintf(&b, " %s%s |", c.verdict, mark)
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	for i, note := range notes {
		fmt.Fprintf(&b, "- <sup>%c</sup> %s\n", 'a'+i, note)
	}
	return b.String()
}
