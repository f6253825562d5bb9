package quorum

import (
	"fmt"
	"os"
	"syscall"
)

// lockDir takes the directory's lock; closing the file, or the end of the
// process, gives it back.
func lockDir(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot lock metadata directory: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		return nil, fmt.Errorf("cannot lock %q: another process uses this metadata directory (%w)", path, err)
	}
	return file, nil
}
