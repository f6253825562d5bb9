//go:build !linux

package limit

import (
	"errors"
	"os"
)

func flushData(f *os.File) error { return f.Sync() }

// Settle does nothing here.
func Settle([]string) error { return nil }

// Evict is possible on Linux only.
func Evict([]string) error { return errLinux }

// Resident is known on Linux only.
func Resident([]string) (float64, error) { return 0, errLinux }

var errLinux = errors.New("cannot empty the page cache: only known on Linux")
