package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// newQueue opens a queue whose journal runs until the end of the test or stop.
func newQueue(t *testing.T, path string, limit int) (q *queue, stop func()) {
	t.Helper()
	q, err := openQueue(path, "test", limit, quiet)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { q.journal.run(ctx); close(ended) }()
	return q, func() { cancel(); <-ended }
}

func (q *queue) text() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	var b strings.Builder
	for _, m := range q.mu.items {
		fmt.Fprintf(&b, "%s ", m.Key)
	}
	b.WriteString("|")
	for _, d := range q.mu.dead {
		fmt.Fprintf(&b, " %s(%s)", d.Key, d.Error)
	}
	fmt.Fprintf(&b, " | %d done", len(q.mu.done))
	return b.String()
}

func put(t *testing.T, q *queue, key string) {
	t.Helper()
	safe, fresh := q.put(&message{Key: key, Created: time.Now()})
	if !fresh {
		t.Fatalf("%s is not new", key)
	}
	<-safe
}

func TestAQueueSurvives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q")
	q, stop := newQueue(t, path, 3)
	for _, key := range []string{"a", "b", "c", "d"} { // one too many
		put(t, q, key)
	}
	q.finish(&message{Key: "b"}, time.Now())
	q.giveUp("c", errors.New("refused"), time.Now())
	const want = "d | a(the queue is full: 3 messages wait) c(refused) | 1 done"
	if q.text() != want {
		t.Fatalf("queue: %s, want %s", q.text(), want)
	}
	stop()
	for range 2 { // the second time from a file that was written anew
		q, stop = newQueue(t, path, 3)
		if q.text() != want {
			t.Fatalf("after a restart: %s, want %s", q.text(), want)
		}
		for _, key := range []string{"a", "b", "c", "d"} {
			if _, fresh := q.put(&message{Key: key}); fresh {
				t.Errorf("%s was taken twice", key)
			}
		}
		stop()
	}
	if _, err := openQueue(path, "other", 3, quiet); err == nil {
		t.Error("the file of another queue was taken")
	}
}

func TestADeadLetterComesBackOverARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q")
	q, stop := newQueue(t, path, 3)
	put(t, q, "a")
	q.giveUp("a", errors.New("refused"), time.Now())
	if !q.retry("a") {
		t.Fatal("there is no dead letter")
	}
	stop()
	q, stop = newQueue(t, path, 3)
	defer stop()
	if q.text() != "a | | 0 done" {
		t.Errorf("queue: %s", q.text())
	}
}

// TestPowerLostAtEveryByte cuts the file everywhere: what is read is always the
// state after some of the changes, in their order, and never an error.
func TestPowerLostAtEveryByte(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q")
	q, stop := newQueue(t, path, 10)
	states := []string{"| | 0 done"}
	for i := range 4 {
		key := string(rune('a' + i))
		put(t, q, key)
		states = append(states, q.text())
		if i%2 == 0 {
			q.finish(&message{Key: key}, time.Now())
		} else {
			q.giveUp(key, errors.New("no"), time.Now())
		}
		states = append(states, q.text())
	}
	stop()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for n := range len(whole) + 1 {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		cut, err := openQueue(path, "test", 10, quiet)
		if err != nil {
			t.Fatalf("cut at %d: %v", n, err)
		}
		for at < len(states) && cut.text() != states[at] {
			at++
		}
		if at == len(states) {
			t.Fatalf("cut at %d: %s is none of the states, or an older one than before", n, cut.text())
		}
	}
	if at != len(states)-1 {
		t.Errorf("the whole file gives state %d of %d", at, len(states)-1)
	}
}

func TestADiskThatRefusesAndComesBack(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "q")
	if err := os.MkdirAll(filepath.Join(path+".tmp", "x"), 0o700); err != nil { // in the way of every write
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		q, stop := newQueue(t, path, 10)
		safe, fresh := q.put(&message{Key: "a"})
		synctest.Wait()
		select {
		case <-safe:
			t.Fatal("a message is safe on a disk that refuses")
		default:
		}
		if !fresh || q.first() == nil {
			t.Fatal("the message is not in memory")
		}
		second, _ := q.put(&message{Key: "b"})
		if err := os.RemoveAll(path + ".tmp"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(journalRetry)
		synctest.Wait()
		<-safe
		<-second
		stop()
		if q.journal.failures() != 1 {
			t.Errorf("%d failures, want 1", q.journal.failures())
		}
	})
	q, err := openQueue(path, "test", 10, quiet)
	if err != nil || q.text() != "a b | | 0 done" {
		t.Errorf("queue: %s, %v", q.text(), err)
	}
}

func TestKeysAreForgottenInTime(t *testing.T) {
	q, err := openQueue(filepath.Join(t.TempDir(), "q"), "test", 10, quiet)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for i := range maxKeys + 5 {
		q.mu.done[fmt.Sprint(i)] = &finished{Key: fmt.Sprint(i), At: now.Add(-time.Duration(i) * time.Second)}
	}
	q.mu.done["old"] = &finished{Key: "old", At: now.Add(-keepKeys - time.Hour)}
	q.trim(now)
	if _, old := q.mu.done["old"]; old || len(q.mu.done) != maxKeys || q.mu.done["0"] == nil {
		t.Errorf("%d keys kept, old %v", len(q.mu.done), old)
	}
}

func FuzzDecodeRecords(f *testing.F) {
	var b bytes.Buffer
	for _, r := range []record{{Head: &head{Queue: "test", Version: 1}}, {Put: &message{Key: "a"}}, {Done: &finished{Key: "a"}}, {Dead: &dead{Key: "b"}}, {Wake: "c"}} {
		b.Write(encodeRecord(&r))
	}
	f.Add(b.Bytes())
	f.Add([]byte("00000000 {}\n"))
	read := func(raw []byte) *queue {
		q := &queue{name: "test", limit: 10, log: quiet}
		q.mu.done = map[string]*finished{}
		decodeRecords(raw, q.replay)
		return q
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		q := read(raw)
		q.trim(time.Now()) // what writing forgets for its age
		var again bytes.Buffer
		for _, r := range q.state() {
			again.Write(encodeRecord(&r))
		}
		if got := read(again.Bytes()).text(); got != q.text() {
			t.Errorf("written anew: %s; before: %s", got, q.text())
		}
	})
}
