package golden

import (
	"strings"
	"testing"
)

// TestBlocks: old outputs go, new ones come, comments stay and are not run.
func TestBlocks(t *testing.T) {
	const text = "# why\nsay a\n  say b\n----\nold\n\nsay c\n"
	got := Blocks(text, func(command string) string { return strings.TrimPrefix(command, "say ") + "!\n" })
	if want := "# why\nsay a\nsay b\n----\na!\nb!\n\nsay c\n----\nc!\n"; got != want {
		t.Errorf("gives\n%s\nwant\n%s", got, want)
	}
}
