package crash

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

// corruptible is a node with two topics: what becomes of one must not touch the other.
type corruptible struct {
	*nodetest.Node
	sick, well *ledger
}

func startCorruptible(t *testing.T, settings map[string]string) *corruptible {
	t.Helper()
	all := map[string]string{"log.segment.bytes": "65536", "agent.period": "1s", "log.flush.offset.checkpoint.interval.ms": "100"}
	for k, v := range settings {
		all[k] = v
	}
	n := nodetest.Start(t, nodetest.Options{Settings: all})
	c := &corruptible{Node: n, sick: newLedger("sick", 1), well: newLedger("well", 1)}
	adm := admin(t, n)
	if _, err := adm.CreateTopics(t.Context(), 1, 1, nil, "sick", "well"); err != nil {
		t.Fatal(err)
	}
	for _, l := range []*ledger{c.sick, c.well} {
		c.fill(t, l, 0)
	}
	return c
}

const messages = 500 // in each topic: some five segments

// fill produces numbered messages that all have to be acknowledged.
func (c *corruptible) fill(t *testing.T, l *ledger, from int) {
	t.Helper()
	p, err := kgo.NewClient(kgo.SeedBrokers(c.Kafka), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.MaxBufferedRecords(50))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for i := from; i < from+messages; i += 50 {
		var rs []*kgo.Record
		for j := range 50 {
			rs = append(rs, l.message("m", i+j))
		}
		if err := p.ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		for j, r := range rs {
			l.note(t, r, "m", i+j)
		}
	}
}

// folder gives the log folder of a topic's only partition.
func (c *corruptible) folder(t *testing.T, topic string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(c.Dir, "data", "*", "partition.metadata"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), "topic: "+topic+"\n") {
			return filepath.Dir(name)
		}
	}
	t.Fatalf("no folder holds topic %s", topic)
	return ""
}

// files gives the topic's files with that suffix in order, the newest last.
func (c *corruptible) files(t *testing.T, topic, suffix string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(c.folder(t, topic), "*"+suffix))
	if err != nil || len(names) < 3 {
		t.Fatalf("%q and %v, want some segments", names, err)
	}
	slices.Sort(names)
	return names
}

// flip changes one bit in the middle of a file.
func flip(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], info.Size()/2); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 4
	if _, err := f.WriteAt(b[:], info.Size()/2); err != nil {
		t.Fatal(err)
	}
}

// readAll reads the sick topic as a client does that looks at no CRC, and gives the refusal it meets.
// What it is given before must be right.
func (c *corruptible) readAll(t *testing.T) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Kafka), kgo.DisableFetchCRCValidation(), kgo.KeepRetryableFetchErrors(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"sick": {0: kgo.NewOffset().At(0)}}))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for read := 0; read < c.sick.count(); {
		fetches := cl.PollFetches(ctx)
		for _, r := range fetches.Records() {
			read++
			if _, _, err := c.sick.compare(r); err != nil {
				t.Fatalf("damage was served as good at offset %d: %v", r.Offset, err)
			}
		}
		if err := fetches.Err(); err != nil {
			return err
		}
	}
	return nil
}

// offline says that the sick partition is refused, and told so everywhere, and nothing else is.
func (c *corruptible) offline(t *testing.T) {
	t.Helper()
	if err := c.readAll(t); !errors.Is(err, kerr.KafkaStorageError) {
		t.Errorf("reading a damaged log ends with %v, want KAFKA_STORAGE_ERROR", err)
	}
	c.well.verify(t.Context(), t, c.Kafka)
	if log := c.Log(); !strings.Contains(log, "log is damaged and offline") || !strings.Contains(log, "partition=sick-0") || !strings.Contains(log, filepath.Base(c.folder(t, "sick"))) {
		t.Errorf("the log does not name partition and folder of what is damaged:\n%s", log)
	}
	eventually(t, "the metric of damaged data", func() bool { return says(c.Node, "belfry_corruptions_total", "") })
	eventually(t, "the metric of offline partitions", func() bool { return says(c.Node, "belfry_offline_partitions", "") })
}

func TestDamageWhileTheNodeIsDown(t *testing.T) {
	c := startCorruptible(t, nil)
	c.Stop()
	flip(t, c.files(t, "sick", ".log")[1])
	c.Restart()
	c.offline(t)
	// It is no better after a crash: nothing is cut, nothing is made good.
	c.Kill()
	c.Restart()
	c.offline(t)
}

func TestDamageWhileTheNodeRuns(t *testing.T) {
	c := startCorruptible(t, nil)
	flip(t, c.files(t, "sick", ".log")[1])
	c.offline(t)
}

func TestDamageThatNobodyReads(t *testing.T) {
	c := startCorruptible(t, nil)
	c.Stop()
	flip(t, c.files(t, "sick", ".log")[1])
	c.Restart() // the scrubber begins with a start
	eventually(t, "the scrubber to find it", func() bool { return says(c.Node, "belfry_corruptions_total", "") })
	c.offline(t)
}

// TestDerivedFiles: indexes, snapshots and checkpoints only say what the batches say too.
func TestDerivedFiles(t *testing.T) {
	half := func(t *testing.T, path string) {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, info.Size()/2+1); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(t *testing.T, path string) {
		t.Helper()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	c := startCorruptible(t, nil)
	checkpoints := func() []string {
		names, err := filepath.Glob(filepath.Join(c.Dir, "data", "*-checkpoint"))
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	for _, clean := range []bool{true, false} {
		for _, harm := range []struct {
			what string
			do   func(t *testing.T, path string)
		}{{"removed", remove}, {"cut", half}, {"changed", flip}} {
			if clean {
				c.Stop()
			} else {
				eventually(t, "the checkpoints of a node that runs", func() bool { return len(checkpoints()) >= 2 })
				c.Kill()
			}
			for _, topic := range []string{"sick", "well"} {
				for _, suffix := range []string{".index", ".timeindex"} {
					for _, path := range c.files(t, topic, suffix) {
						if info, err := os.Stat(path); err != nil || info.Size() == 0 {
							continue
						}
						// Why not the changed ones: an index has no CRC, it is only a hint where to look.
						if harm.what != "changed" {
							harm.do(t, path)
						}
					}
				}
				if path := filepath.Join(c.folder(t, topic), "leader-epoch-checkpoint"); exists(path) {
					harm.do(t, path)
				}
			}
			paths := checkpoints()
			if len(paths) < 2 {
				t.Fatalf("checkpoints %q", paths)
			}
			for _, path := range paths {
				harm.do(t, path)
			}
			c.Restart()
			for _, l := range []*ledger{c.sick, c.well} {
				c.fill(t, l, l.count())
				l.forget()
				l.verify(t.Context(), t, c.Kafka)
			}
			if t.Failed() {
				t.Fatalf("after indexes and checkpoints were %s, clean stop %v:\n%s", harm.what, clean, c.Log())
			}
		}
	}
	if starts := c.sick.starts(t.Context(), t, c.Kafka); starts[0] != 0 {
		t.Errorf("the log start is %d", starts[0])
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// TestRefusesToStart: a node whose directories do not belong together says so and ends,
// and leaves them as they are.
func TestRefusesToStart(t *testing.T) {
	c := startCorruptible(t, nil)
	c.Stop()
	data := filepath.Join(c.Dir, "data")
	props := filepath.Join(data, "meta.properties")
	good, err := os.ReadFile(props)
	if err != nil {
		t.Fatal(err)
	}
	line := func(key string) string {
		for l := range strings.Lines(string(good)) {
			if strings.HasPrefix(l, key+"=") {
				return l
			}
		}
		t.Fatalf("no %s in %q", key, good)
		return ""
	}
	write := func(old, new string) func(*testing.T) {
		return func(t *testing.T) {
			if err := os.WriteFile(props, []byte(strings.Replace(string(good), old, new, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	restore := func(t *testing.T) {
		if err := os.WriteFile(props, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	moved := filepath.Join(c.Dir, "moved")
	meta := filepath.Join(data, metadataDir(t, data))
	rename := func(from, to string) func(*testing.T) {
		return func(t *testing.T) {
			if err := os.Rename(from, to); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, x := range []struct {
		what       string
		harm, heal func(*testing.T)
		says       []string
	}{
		{"another node", write(line("node.id"), "node.id=7\n"), restore, []string{"node.id 7", "meta.properties"}},
		{"another cluster", write(line("cluster.id"), "cluster.id=AAAAAAAAAAAAAAAAAAAAAA\n"), restore, []string{"AAAAAAAAAAAAAAAAAAAAAA"}},
		{"a damaged file", write("=", " "), restore, []string{"meta.properties"}},
		{"the file lost", func(t *testing.T) {
			if err := os.Remove(props); err != nil {
				t.Fatal(err)
			}
		}, restore, []string{"meta.properties"}},
		{"the metadata lost", rename(meta, moved), func(t *testing.T) {
			if err := os.RemoveAll(meta); err != nil {
				t.Fatal(err)
			}
			rename(moved, meta)(t)
		}, []string{"message logs are there", meta}},
	} {
		x.harm(t)
		for range 2 { // a second try is no other
			c.refuses(t, x.what, append(x.says, "belfry: cannot"))
		}
		x.heal(t)
	}
	c.Restart()
	for _, l := range []*ledger{c.sick, c.well} {
		l.verify(t.Context(), t, c.Kafka)
	}
}

// refuses starts the node and expects it to end by itself with all that in its last line.
func (c *corruptible) refuses(t *testing.T, what string, says []string) {
	t.Helper()
	c.Launch()
	select {
	case <-c.Gone():
	case <-time.After(time.Minute):
		c.Kill()
		t.Fatalf("%s: the node runs", what)
	}
	lines := strings.Split(c.Log(), "\n")
	last := lines[len(lines)-1]
	for _, want := range says {
		if !strings.Contains(last, want) {
			t.Errorf("%s: the node ends with %q, want it to say %q", what, last, want)
		}
	}
	if c.ExitError() == nil {
		t.Errorf("%s: the exit code is 0", what)
	}
}

// metadataDir gives the name of the metadata log's directory: the one that is no partition's.
func metadataDir(t *testing.T, data string) string {
	t.Helper()
	entries, err := os.ReadDir(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && e.Name() != "agent" && !exists(filepath.Join(data, e.Name(), "partition.metadata")) {
			return e.Name()
		}
	}
	t.Fatalf("no metadata directory in %s", data)
	return ""
}

// says tells whether the node's metrics page has a series of that name, with that label if
// it is not empty, that is not 0.
func says(n *nodetest.Node, name, label string) bool {
	_, page := n.HTTP("/metrics")
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, name+"{") && strings.Contains(line, label) && !strings.HasSuffix(strings.TrimSpace(line), "} 0") {
			return true
		}
	}
	return false
}
