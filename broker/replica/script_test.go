package replica

import (
	"strings"
	"testing"

	"github.com/belfry-mq/belfry/broker/golden"
)

// runScripts plays each file in testdata that matches. fresh gives a new machine for each file.
func runScripts(t *testing.T, pattern string, fresh func(t *testing.T) func(cmd string, args []string) string) {
	t.Helper()
	golden.Scripts(t, "testdata/"+pattern, func(t *testing.T, text string) string {
		step := fresh(t)
		return golden.Blocks(text, func(command string) string {
			f := strings.Fields(command)
			return step(f[0], f[1:])
		})
	})
}
