package profile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/pprof"
	"sync"
	"time"
)

// Recorder takes one profile of this process at a time.
type Recorder struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	running bool
}

// Start begins. Errors: something else takes a profile already.
func (r *Recorder) Start() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.buf.Reset()
	if err := pprof.StartCPUProfile(&r.buf); err != nil {
		return fmt.Errorf("cannot start a profile: %w", err)
	}
	r.running = true
	return nil
}

// Stop ends and gives the profile. Errors: it was not started.
func (r *Recorder) Stop() ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.running {
		return nil, errors.New("cannot stop a profile: none was started")
	}
	pprof.StopCPUProfile()
	r.running = false
	return bytes.Clone(r.buf.Bytes()), nil
}

// ServeHTTP answers POST /start and POST /stop, the second with the profile.
func (r *Recorder) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	var b []byte
	err := fmt.Errorf("cannot %s %s", q.Method, q.URL.Path)
	switch q.Method + q.URL.Path {
	case "POST/start":
		err = r.Start()
	case "POST/stop":
		b, err = r.Stop()
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	_, _ = w.Write(b) // who asked has gone
}

// Serve answers on addr until ctx ends.
func Serve(ctx context.Context, addr string) error {
	s := &http.Server{Addr: addr, Handler: new(Recorder), ReadHeaderTimeout: patience}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() }) // nothing is in flight that matters
	defer stop()
	if err := s.ListenAndServe(); ctx.Err() == nil {
		return fmt.Errorf("cannot serve profiles on %q: %w", addr, err)
	}
	return nil
}

// patience is how long the other process may take to answer.
const patience = 10 * time.Second

// Remote is the Recorder of another process, at its address.
type Remote string

// Start begins. Errors: as Recorder.Start; no answer.
func (r Remote) Start() error {
	_, err := r.post("/start")
	return err
}

// Stop ends and gives the profile. Errors: as Recorder.Stop; no answer.
func (r Remote) Stop() ([]byte, error) { return r.post("/stop") }

func (r Remote) post(path string) ([]byte, error) {
	c := http.Client{Timeout: patience}
	resp, err := c.Post("http://"+string(r)+path, "", nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("cannot take a profile of %q: %s", string(r), bytes.TrimSpace(b))
	}
	return b, err
}
