//go:build planted

package main

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"
)

// clock is the one that the broker goes by, for tests of clocks that are wrong: it is ahead by what the
// file in BELFRY_CLOCK holds (in seconds) at the moment. As on a machine whose clock is set, only the wall clock jumps.
func clock() func() time.Time {
	path := os.Getenv("BELFRY_CLOCK")
	if path == "" {
		return time.Now
	}
	c := &setClock{path: path}
	return c.now
}

// clockLook is how old what was read of the file may be.
const clockLook = 100 * time.Millisecond

type setClock struct {
	path  string
	mu    sync.Mutex
	read  time.Time
	ahead int64 // seconds
}

func (c *setClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := time.Now()
	if t.Sub(c.read) > clockLook {
		c.read = t
		if b, err := os.ReadFile(c.path); err == nil {
			c.ahead, _ = strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		}
	}
	// Why so: Add would move the monotonic reading, too. The wall seconds lie from bit 30 on.
	*(*uint64)(unsafe.Pointer(&t)) += uint64(c.ahead) << 30
	return t
}
