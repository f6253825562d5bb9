package bench

import "golang.org/x/sys/unix"

// manyFiles lets this process and those it starts open as many files as the system allows:
// thousands of partitions and connections need them.
func manyFiles() {
	const wanted = 1 << 18
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: wanted, Max: wanted}) == nil {
		return // only the superuser may
	}
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return // then the limit is what it is, and who runs into it says so
	}
	l.Cur = l.Max
	_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &l) // the same
}

func freeBytes(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * s.Bsize, nil
}

// touch takes so much free memory and gives it back: its pages are real ones afterwards.
func touch(bytes int64) {
	if bytes <= 0 {
		return
	}
	b, err := unix.Mmap(-1, 0, int(bytes), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_POPULATE)
	if err != nil {
		return // what cannot be had is not free
	}
	_ = unix.Munmap(b) // of a mapping that was just made
}
