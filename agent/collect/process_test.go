package collect

import (
	"os"
	"testing"
)

// TestOpenFiles opens files and wants them counted.
func TestOpenFiles(t *testing.T) {
	before, err := openFiles()
	if err != nil || before < 3 {
		t.Fatalf("%d open files, %v", before, err)
	}
	const more = 40 // so that a descriptor or two of the runtime's own do not matter
	for range more {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	after, err := openFiles()
	if err != nil || after-before < more-5 || after-before > more+5 {
		t.Errorf("%d open files after %d and %d more, %v", after, before, more, err)
	}
}
