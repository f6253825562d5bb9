package local

import (
	"bytes"
	"fmt"
	"os"
)

// ours tells whether the process lives and was started with this configuration file. A
// process ID alone may belong to somebody else by now.
func ours(pid int, config string) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	// Its state stands behind the name, which is in parentheses and may hold any byte.
	if i := bytes.LastIndexByte(stat, ')'); i < 0 || i+2 >= len(stat) || stat[i+2] == 'Z' {
		return false
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return false
	}
	for _, arg := range bytes.Split(line, []byte{0}) {
		if string(arg) == config {
			return true
		}
	}
	return false
}
