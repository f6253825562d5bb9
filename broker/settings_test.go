package broker

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belfry-mq/belfry/broker/config"
)

// TestEverySettingIsRead looks for rows of the table that nobody asks for: a setting that
// is accepted and does nothing lies to whoever set it.
func TestEverySettingIsRead(t *testing.T) {
	// unclean.leader.election.enable chooses among replicas; with one of each partition
	// there is no choice, and false and true are both what happens.
	read := map[string]bool{"unclean.leader.election.enable": true}
	for _, root := range []string{".", "../agent", "../cmd"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "config/table") || strings.HasPrefix(path, "config/agent") {
				return err
			}
			b, err := os.ReadFile(path)
			for _, s := range config.Table() {
				if strings.Contains(string(b), `"`+s.Name+`"`) {
					read[s.Name] = true
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range config.Table() {
		if read[s.Name] {
			for _, f := range s.Follows {
				read[f.Name] = true
			}
		}
	}
	for _, s := range config.Table() {
		if !read[s.Name] {
			t.Errorf("setting %q is in the table and nobody reads it", s.Name)
		}
	}
}
