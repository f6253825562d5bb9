//go:build !linux

package local

import (
	"os/exec"
	"strconv"
	"strings"
)

// ours tells whether the process lives and was started with this configuration file. A
// process ID alone may belong to somebody else by now.
func ours(pid int, config string) bool {
	out, err := exec.Command("ps", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && strings.Contains(string(out), config)
}
