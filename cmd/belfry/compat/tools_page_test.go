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

// Folders below page keep what the tools did, one file a release, so that a run of some of them
// replaces only their lines: "TOOL TAB DATE TAB VERDICT TAB REASON".
const (
	oneNodeResults    = "tools"
	threeNodesResults = "tools3"
)

// keepTool writes into the page, in the long form and when the test ends, whether the test
// passed for a tool of a release; a note stands with a pass.
func keepTool(t *testing.T, results, release, tool, note string) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			saveTool(t, results, release, tool, "✗", "")
			return
		}
		saveTool(t, results, release, tool, "✓", note)
	})
}

// saveTool keeps one cell of the table, and makes the page again. A run against another server
// than a node says nothing about the node.
func saveTool(t *testing.T, results, release, tool, verdict, why string) {
	t.Helper()
	if !long() || os.Getenv(peerVariable) != "" {
		return
	}
	if err := os.MkdirAll(filepath.Join("page", results), 0o755); err != nil {
		t.Fatal(err)
	}
	cells := readCells(t, results, release)
	cells[tool] = cell{time.Now().UTC().Format(time.DateOnly), verdict, why}
	var b strings.Builder
	for _, tool := range slices.Sorted(maps.Keys(cells)) {
		c := cells[tool]
		fmt.Fprintf(&b, "%s\t%s\t%s\t%s\n", tool, c.date, c.verdict, c.why)
	}
	save(t, filepath.Join("page", results, release+".tsv"), b.String())
	writePart(t, "tools", toolSections(t))
}

// cell is one result.
type cell struct{ date, verdict, why string }

// readCells gives what is kept of one release, by tool.
func readCells(t *testing.T, results, release string) map[string]cell {
	t.Helper()
	cells := map[string]cell{}
	text, err := os.ReadFile(filepath.Join("page", results, release+".tsv"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 4 {
			t.Fatalf("the kept results of %s have the line %q", release, line)
		}
		cells[f[0]] = cell{f[1], f[2], f[3]}
	}
	return cells
}

// toolSections makes the sections of the page from what is kept.
func toolSections(t *testing.T) string {
	t.Helper()
	text := toolTable(t, oneNodeResults, "## Tools of Apache Kafka, Streams, Connect\n\nUnchanged jars of three releases against one node, each with what it printed compared")
	return text + "\n" + toolTable(t, threeNodesResults, "## Tools of Apache Kafka against three brokers\n\nThe same against a cluster of three, topics of three replicas, `min.insync.replicas=2`")
}

// toolTable makes one section, "" when nothing of it was run.
func toolTable(t *testing.T, results, head string) string {
	t.Helper()
	cells, oldest := map[string]map[string]cell{}, "9"
	releases := slices.Clone(toolReleases)
	for _, release := range releases {
		for tool, c := range readCells(t, results, release) {
			if cells[tool] == nil {
				cells[tool] = map[string]cell{}
			}
			cells[tool][release] = c
			oldest = min(oldest, c.date)
		}
	}
	if len(cells) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s; runs since %s.\n✓ works, ✗ does not, – the release has no such tool, empty not run.\n\n", head, oldest)
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
