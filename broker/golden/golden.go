// Package golden holds tests against the files in their testdata: what a format writes, what
// a script prints. Every test that uses it knows the flag -update, which writes the files
// anew; the difference is then read like any other change. Only tests import it.
package golden

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what the tests gave into their files in testdata")

// Updating tells whether the files are written anew: by -update.
func Updating() bool { return *update }

// Match fails the test if a file is not what it should be. With -update it is written first.
func Match(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs from what is made now (-update writes it anew); it would be\n%s", file, got)
	}
}

// Scripts runs a test for each file that matches, "testdata/*.txt": play gives its text back
// with what its commands printed now.
func Scripts(t *testing.T, pattern string, play func(t *testing.T, text string) string) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts %q: %v", pattern, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			Match(t, file, play(t, string(text)))
		})
	}
}

// Blocks plays the common kind of script: blocks of commands, a line of four dashes, what they
// printed, an empty line. run gets each command without space around it and gives what it
// prints, with its newlines; empty lines and those that begin with # are not run.
func Blocks(text string, run func(command string) string) string {
	var out strings.Builder
	for i, block := range strings.Split(strings.TrimRight(text, "\n"), "\n\n") {
		if i > 0 {
			out.WriteString("\n")
		}
		commands, _, _ := strings.Cut(block, "\n----")
		var printed strings.Builder
		for line := range strings.Lines(commands) {
			line = strings.TrimSpace(line)
			out.WriteString(line + "\n")
			if line != "" && !strings.HasPrefix(line, "#") {
				printed.WriteString(run(line))
			}
		}
		out.WriteString("----\n" + printed.String())
	}
	return out.String()
}
