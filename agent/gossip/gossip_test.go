package gossip

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is the longest that anything awaited may take on a busy machine.
const patience = 30 * time.Second

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}

// words is a state: a set of words, told one by one.
type words struct {
	mu  sync.Mutex
	all map[string]bool
}

func (w *words) Share() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for x := range w.all {
		all = append(all, x)
	}
	return []byte(strings.Join(all, " "))
}

func (w *words) Merge(b []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range strings.Fields(string(b)) {
		w.all[x] = true
	}
	return nil
}

func (w *words) has(x string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all[x]
}

// say adds a word and tells it.
func (h *house) say(x string) {
	if err := h.words.Merge([]byte(x)); err != nil {
		panic(err)
	}
	h.Tell("words", []byte(x))
}

// town is the meshes that know of each other.
type town struct {
	t  *testing.T
	mu sync.Mutex
	at []string
}

type house struct {
	*Mesh
	words *words
	end   func()
}

func (c *town) peers() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.at)
}

func (c *town) build(node string, change func(*Options), known ...string) *house {
	c.t.Helper()
	o := Options{
		Listen: "127.0.0.1:0", Node: node, Cluster: func() string { return "c1" }, Peers: c.peers,
		Logger: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&o)
	}
	m, err := Open(o)
	if err != nil {
		c.t.Fatal(err)
	}
	h := &house{Mesh: m, words: &words{all: map[string]bool{}}}
	for _, x := range known {
		h.words.all[x] = true
	}
	m.Add("words", h.words)
	c.mu.Lock()
	c.at = append(c.at, m.Addr())
	c.mu.Unlock()
	ctx, cancel := context.WithCancel(c.t.Context())
	over := make(chan error, 1)
	go func() { over <- m.Run(ctx) }()
	h.end = sync.OnceFunc(func() {
		cancel()
		if err := <-over; err != nil {
			c.t.Errorf("Run of %s: %v", node, err)
		}
	})
	c.t.Cleanup(h.end)
	return h
}

func TestNodesTellEachOther(t *testing.T) {
	c := &town{t: t}
	secret := func(o *Options) { o.Secret = "well kept" }
	one, two := c.build("1", secret, "old"), c.build("2", secret)
	eventually(t, "the second has what the first knew", func() bool { return two.words.has("old") })
	eventually(t, "both are settled", func() bool { return one.Settled() && two.Settled() })
	one.say("new")
	eventually(t, "the second is told", func() bool { return two.words.has("new") })
	three := c.build("3", secret)
	eventually(t, "a third has what was said before it came", func() bool { return three.words.has("old") && three.words.has("new") })
	eventually(t, "all have met", func() bool {
		for _, h := range []*house{one, two, three} {
			if !slices.Equal(h.Nodes(), []string{"1", "2", "3"}) {
				return false
			}
		}
		return true
	})
	big := strings.Repeat("x", 1<<20) // far more than a packet holds
	three.say(big)
	eventually(t, "the others are told a long word", func() bool { return one.words.has(big) && two.words.has(big) })
	two.end()
	eventually(t, "who leaves is missed at once", func() bool { return slices.Equal(one.Nodes(), []string{"1", "3"}) })
	again := c.build("2", secret)
	eventually(t, "who comes back at another address is met", func() bool {
		return again.words.has("new") && slices.Equal(one.Nodes(), []string{"1", "2", "3"})
	})
	if n := one.Dropped() + three.Dropped(); n != 0 {
		t.Errorf("%d messages dropped", n)
	}
}

func TestStrangersAreKeptOut(t *testing.T) {
	c := &town{t: t}
	one := c.build("1", func(o *Options) { o.Secret = "well kept" }, "private")
	strangers := map[string]*house{
		"another secret":  c.build("2", func(o *Options) { o.Secret = "guessed" }, "lie"),
		"no secret":       c.build("3", nil, "lie"),
		"another cluster": c.build("4", func(o *Options) { o.Secret, o.Cluster = "well kept", func() string { return "c2" } }, "lie"),
	}
	for name, stranger := range strangers {
		eventually(t, name+" goes on alone", stranger.Settled)
		if stranger.words.has("private") || one.words.has("lie") {
			t.Errorf("%s: words were exchanged", name)
		}
	}
	if got := one.Nodes(); !slices.Equal(got, []string{"1"}) {
		t.Errorf("the first one met %v", got)
	}
}

func TestAddressesThatAreRefused(t *testing.T) {
	for listen, want := range map[string]string{
		"nonsense":       "as address",
		"0.0.0.0:0":      "name the address",
		":9310":          "name the address",
		"192.0.2.1:9310": "need a secret",
	} {
		if _, err := Open(Options{Listen: listen, Logger: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", listen, err, want)
		}
	}
	m, err := Open(Options{Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

func TestRunAgain(t *testing.T) {
	m, err := Open(Options{Listen: "127.0.0.1:0", Node: "1", Cluster: func() string { return "c" }, Peers: func() []string { return nil }, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	at := m.Addr()
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		over := make(chan error, 1)
		go func() { over <- m.Run(ctx) }()
		eventually(t, "it is there", func() bool { return len(m.Nodes()) == 1 })
		cancel()
		if err := <-over; err != nil {
			t.Fatal(err)
		}
		if m.Addr() != at {
			t.Errorf("it moved from %s to %s", at, m.Addr())
		}
	}
}

func TestFrames(t *testing.T) {
	var b []byte
	want := []frame{{"a", []byte("one")}, {"bb", nil}, {"ccc", bytes.Repeat([]byte{7}, 300)}}
	for _, f := range want {
		b = appendFrame(b, f.name, f.body)
	}
	got, err := readFrames(b)
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d frames, %v", len(got), err)
	}
	for i, f := range want {
		if got[i].name != f.name || !bytes.Equal(got[i].body, f.body) {
			t.Errorf("frame %d is %q of %d bytes", i, got[i].name, len(got[i].body))
		}
	}
	for n := 1; n < len(b); n++ {
		if got, err := readFrames(b[:n]); err == nil && len(got) >= len(want) {
			t.Errorf("%d of %d bytes were read as a whole", n, len(b))
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(appendFrame(appendFrame(nil, "alarms", []byte("{}")), "x", nil))
	f.Add([]byte{1, 'a', 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := readFrames(b)
		if err != nil {
			return
		}
		var again []byte
		for _, x := range all {
			again = appendFrame(again, x.name, x.body)
		}
		if !bytes.Equal(b, again) {
			t.Errorf("%x was read as %x", b, again)
		}
	})
}
