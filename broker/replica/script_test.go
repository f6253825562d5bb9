package replica

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what the scripts gave into testdata")

// runScripts runs each file that matches: blocks of command lines, a line "----", what they
// must print, an empty line. fresh gives a new machine for each file.
func runScripts(t *testing.T, pattern string, fresh func(t *testing.T) func(cmd string, args []string) string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts %q: %v", pattern, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			step := fresh(t)
			var got strings.Builder
			for i, block := range strings.Split(strings.TrimRight(string(text), "\n"), "\n\n") {
				if i > 0 {
					got.WriteString("\n")
				}
				commands, _, _ := strings.Cut(block, "\n----")
				var out strings.Builder
				for line := range strings.Lines(commands) {
					line = strings.TrimSpace(line)
					got.WriteString(line + "\n")
					if f := strings.Fields(line); len(f) > 0 && !strings.HasPrefix(line, "#") {
						out.WriteString(step(f[0], f[1:]))
					}
				}
				got.WriteString("----\n" + out.String())
			}
			if *update {
				if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got.String() != string(text) {
				t.Errorf("%s gives\n%s\nwant\n%s", file, got.String(), text)
			}
		})
	}
}
