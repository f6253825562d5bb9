package compat

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// toolLimit is the longest that one run of a client may take.
const toolLimit = 2 * time.Minute

// long tells whether the long form was asked for.
func long() bool { return os.Getenv("BELFRY_LONG") != "" }

// cacheRoot gives the folder that deps.sh filled.
func cacheRoot(t *testing.T) string {
	t.Helper()
	if root := os.Getenv("BELFRY_CACHE"); root != "" {
		return root
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(home, ".cache", "belfry")
}

// cached gives a path below the folder that deps.sh filled.
func cached(t *testing.T, parts ...string) string {
	t.Helper()
	path := filepath.Join(append([]string{cacheRoot(t)}, parts...)...)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s is missing: install the clients with `make deps`", path)
	}
	return path
}

// program runs one client with text on its standard input; it gives both outputs and the error.
func program(t *testing.T, stdin, name string, args ...string) (out, errOut string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), toolLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	err = cmd.Run()
	return o.String(), e.String(), err
}

// must is program that has to succeed.
func must(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	out, errOut, err := program(t, stdin, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s\n%s", filepath.Base(name), strings.Join(args, " "), err, clip(out), clip(errOut))
	}
	return out
}

// clip keeps the end of a long output.
func clip(s string) string {
	const most = 4000
	if len(s) > most {
		return "…" + s[len(s)-most:]
	}
	return s
}

// contains fails the test unless every text is part of the output.
func contains(t *testing.T, what, out string, texts ...string) {
	t.Helper()
	for _, want := range texts {
		if !strings.Contains(out, want) {
			t.Errorf("%s: no %q in\n%s", what, want, clip(out))
		}
	}
}

// decode reads one JSON object.
func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("cannot read %q: %v", clip(text), err)
	}
	return v
}

func write(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
