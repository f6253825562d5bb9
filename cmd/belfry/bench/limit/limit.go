// Package limit measures what the machine itself allows, without any broker: appending and
// flushing the same bytes, and sending the same files over a loopback socket. It also empties
// the page cache.
package limit

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belfry-mq/belfry/cmd/belfry/bench/load"
)

// Flush appends chunks to as many files as there are partitions, all at the same time, and
// flushes the data of each chunk before the next one, as a broker has to that answers each
// batch from the disk. The files are in a new folder below root, which is removed.
func Flush(ctx context.Context, root string, files, chunk int, d time.Duration) (load.Amount, error) {
	dir, err := os.MkdirTemp(root, "flush-")
	if err != nil {
		return load.Amount{}, err
	}
	defer os.RemoveAll(dir) // a temporary folder
	data := make([]byte, 0, chunk)
	for _, v := range load.Values(1000) {
		data = append(data, v[:min(len(v), chunk-len(data))]...)
	}
	for len(data) < chunk {
		data = append(data, data[:min(len(data), chunk-len(data))]...)
	}
	var sum atomic.Int64
	errs := make(chan error, files)
	var all sync.WaitGroup
	begin := time.Now()
	for i := range files {
		all.Go(func() {
			errs <- appendFlushed(filepath.Join(dir, fmt.Sprint(i)), data, &sum, func() bool { return ctx.Err() == nil && time.Since(begin) < d })
		})
	}
	all.Wait()
	took := time.Since(begin)
	for range files {
		if err := <-errs; err != nil {
			return load.Amount{}, fmt.Errorf("cannot measure the disk's limit: %w", err)
		}
	}
	return load.Amount{Bytes: sum.Load(), Took: took}, ctx.Err()
}

func appendFlushed(path string, data []byte, sum *atomic.Int64, more func() bool) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close() // every byte that counts is flushed
	for more() {
		if _, err := f.Write(data); err != nil {
			return err
		}
		if err := flushData(f); err != nil {
			return err
		}
		sum.Add(int64(len(data)))
	}
	return nil
}

// Send sends files over a loopback socket with sendfile to a reader that throws the bytes away,
// until the files are at an end or, if again is set, over and over until the time is.
func Send(ctx context.Context, files []string, again bool, d time.Duration) (load.Amount, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return load.Amount{}, err
	}
	defer l.Close()
	taken := make(chan error, 1)
	go func() { taken <- discard(l) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return load.Amount{}, err
	}
	defer conn.Close()
	var sum int64
	begin := time.Now()
	more := func() bool { return ctx.Err() == nil && time.Since(begin) < d }
	for pass := true; pass; pass = again && more() && sum > 0 {
		for _, name := range files {
			n, err := sendFile(conn, name, more)
			if err != nil {
				return load.Amount{}, fmt.Errorf("cannot send %q: %w", name, err)
			}
			sum += n
		}
	}
	if err := conn.Close(); err != nil {
		return load.Amount{}, err
	}
	if err := <-taken; err != nil {
		return load.Amount{}, err
	}
	return load.Amount{Bytes: sum, Took: time.Since(begin)}, ctx.Err()
}

// piece is how much is sent between two looks at the clock.
const piece = 4 << 20

func sendFile(conn net.Conn, name string, more func() bool) (sum int64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close() // only read
	for more() {
		// Why through the interface: a TCP connection reads from a file by sendfile.
		n, err := io.Copy(conn, &io.LimitedReader{R: f, N: piece})
		sum += n
		if err != nil || n < piece {
			return sum, err
		}
	}
	return sum, nil
}

func discard(l net.Listener) error {
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	buf := make([]byte, 1<<20)
	for {
		if _, err := conn.Read(buf); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}
