// Package task keeps the list of background tasks: what the node does that takes
// longer than a request, how far it is, and how it ended.
//
// It runs nothing: whoever does the work begins a task, reports progress and
// ends it. The list is durable, so that a task that was running when the node
// died shows up as interrupted instead of vanishing. Invariant: no method but
// Run waits for the disk.
package task

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/belfry-mq/belfry/agent/checkpoint"
)

// State says where a task is in its life.
type State string

// The states. Running is the only one that a task can leave.
const (
	Running     State = "running"
	Succeeded   State = "succeeded"
	Failed      State = "failed"
	Cancelled   State = "cancelled"
	Interrupted State = "interrupted" // the node stopped before the task ended
)

// Task is one background task, as it was when it was asked for.
type Task struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`               // what it does, e.g. "capacity: delete oldest data"
	Resource string    `json:"resource,omitempty"` // what it does it to: instance, broker or topic name
	User     string    `json:"user,omitempty"`     // who asked; empty = the node itself
	State    State     `json:"state"`
	Progress float64   `json:"progress"`         // 0–100 %
	Detail   string    `json:"detail,omitempty"` // free text: what it is at, what it did
	Error    string    `json:"error,omitempty"`  // why it failed
	Start    time.Time `json:"start"`
	End      time.Time `json:"end,omitzero"` // zero while it runs
}

// Filter chooses tasks; the zero value takes all.
type Filter struct {
	Name     string    // part of the name, upper and lower case alike
	State    State     // empty = any
	From, To time.Time // by start; From included, To excluded; zero = open
}

// Errors of Delete.
var (
	ErrUnknown = errors.New("no such task")
	ErrRunning = errors.New("the task is still running")
)

const (
	// maxTasks bounds the list; past it the oldest that ended goes.
	maxTasks = 1000
	// saveEvery spaces the writes of a task that reports progress often, and
	// is the pause after a failed one.
	saveEvery = time.Second
)

// Store is the list of one node's tasks. Its methods may be called from everywhere.
type Store struct {
	file  *checkpoint.File
	log   *slog.Logger
	dirty chan struct{} // capacity 1: "the list differs from the disk"

	mu struct {
		sync.Mutex
		tasks map[string]*Task
	}
}

// Open reads the list from dir/tasks (dir is made when it is missing). Tasks
// that were running become interrupted. A damaged list is set aside and an empty
// one begun: a list of past tasks is not worth refusing to start.
func Open(dir string, log *slog.Logger) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot open task list %q: %w", dir, err)
	}
	s := &Store{file: checkpoint.New(filepath.Join(dir, "tasks"), "task"), log: log, dirty: make(chan struct{}, 1)}
	s.mu.tasks = map[string]*Task{}
	raw, err := s.file.Load()
	var tasks []*Task
	if err == nil {
		err = json.Unmarshal(raw, &tasks)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s, nil
	case err != nil:
		log.Error("task list set aside", "error", err)
		return s, s.file.SetAside()
	}
	for _, t := range tasks {
		if t.State == Running {
			t.State, t.End = Interrupted, time.Now().UTC()
			s.touch()
		}
		s.mu.tasks[t.ID] = t
	}
	return s, nil
}

// Handle is a running task in the hands of whoever does it.
type Handle struct {
	store *Store
	id    string
}

// Begin adds a running task. Resource and user may be empty.
func (s *Store) Begin(name, resource, user string) *Handle {
	t := &Task{ID: rand.Text(), Name: name, Resource: resource, User: user, State: Running, Start: time.Now().UTC()}
	s.mu.Lock()
	s.mu.tasks[t.ID] = t
	s.trimLocked()
	s.mu.Unlock()
	s.touch()
	return &Handle{store: s, id: t.ID}
}

// ID gives the task's ID.
func (h *Handle) ID() string { return h.id }

// Report says how far the task is: percent 0–100 and a free text.
func (h *Handle) Report(percent float64, detail string) {
	h.store.change(h.id, func(t *Task) {
		t.Progress, t.Detail = min(max(percent, 0), 100), detail
	})
}

// Finish ends the task: succeeded, failed with err, or cancelled when err is or
// wraps context.Canceled. Only the first call counts.
func (h *Handle) Finish(err error) {
	h.store.change(h.id, func(t *Task) {
		t.End = time.Now().UTC()
		switch {
		case err == nil:
			t.State, t.Progress = Succeeded, 100
		case errors.Is(err, context.Canceled):
			t.State, t.Error = Cancelled, err.Error()
		default:
			t.State, t.Error = Failed, err.Error()
		}
	})
}

// List gives the tasks that a filter takes, the latest start first.
func (s *Store) List(f Filter) []Task {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []Task
	for _, t := range s.mu.tasks {
		if f.matches(t) {
			found = append(found, *t)
		}
	}
	slices.SortFunc(found, func(a, b Task) int {
		return cmp.Or(b.Start.Compare(a.Start), strings.Compare(a.ID, b.ID))
	})
	return found
}

// Find gives one task.
func (s *Store) Find(id string) (Task, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.mu.tasks[id]
	if !ok {
		return Task{}, false
	}
	return *t, true
}

// Delete removes a task that has ended. Errors: ErrUnknown, ErrRunning.
func (s *Store) Delete(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.mu.tasks[id]
	switch {
	case !ok:
		return fmt.Errorf("cannot delete task %q: %w", id, ErrUnknown)
	case t.State == Running:
		return fmt.Errorf("cannot delete task %q: %w", id, ErrRunning)
	}
	delete(s.mu.tasks, id)
	s.touch()
	return nil
}

// Run keeps the list on the disk. It returns when ctx ends, after a last write.
func (s *Store) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			select {
			case <-s.dirty:
				return s.save()
			default:
				return nil
			}
		case <-s.dirty:
		}
		if err := s.save(); err != nil {
			s.log.Warn("task list waits in memory", "error", err)
			s.touch()
		}
		select { // not more often than saveEvery, and the last write is not late
		case <-ctx.Done():
		case <-time.After(saveEvery):
		}
	}
}

func (s *Store) change(id string, f func(*Task)) {
	s.mu.Lock()
	t, ok := s.mu.tasks[id]
	if ok && t.State == Running {
		f(t)
	}
	s.mu.Unlock()
	s.touch()
}

func (s *Store) touch() {
	select {
	case s.dirty <- struct{}{}:
	default:
	}
}

func (s *Store) save() error {
	raw, err := json.Marshal(s.List(Filter{}))
	if err != nil {
		panic(fmt.Sprintf("BUG: task list cannot be encoded: %v", err))
	}
	return s.file.Save(raw)
}

// trimLocked makes room by forgetting the tasks that ended first.
func (s *Store) trimLocked() {
	for len(s.mu.tasks) > maxTasks {
		var oldest *Task
		for _, t := range s.mu.tasks {
			if t.State != Running && (oldest == nil || t.End.Before(oldest.End)) {
				oldest = t
			}
		}
		if oldest == nil {
			return // all of them run: whoever began a thousand at once bounds them
		}
		delete(s.mu.tasks, oldest.ID)
	}
}

func (f Filter) matches(t *Task) bool {
	switch {
	case f.Name != "" && !strings.Contains(strings.ToLower(t.Name), strings.ToLower(f.Name)):
		return false
	case f.State != "" && f.State != t.State:
		return false
	case !f.From.IsZero() && t.Start.Before(f.From), !f.To.IsZero() && !t.Start.Before(f.To):
		return false
	}
	return true
}
