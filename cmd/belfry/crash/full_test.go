package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

// volumeBytes is the size of the file system that the tests fill.
const volumeBytes = 256 << 20

// volume mounts a file system of its own that ends with the test.
func volume(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", volumeBytes), "tmpfs", dir).CombinedOutput(); err != nil {
		t.Fatalf("cannot mount a tmpfs of 256 MB: %v: %s\nThis test needs root.", err, out)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("cannot unmount %s: %v", dir, err)
		}
	})
	return dir
}

func usage(t *testing.T, dir string) (free int64, percent float64) {
	t.Helper()
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		t.Fatal(err)
	}
	free = int64(s.Bavail) * s.Bsize
	return free, 100 * float64(s.Blocks-s.Bfree) / float64(s.Blocks-s.Bfree+s.Bavail)
}

// fill writes a file until not one byte is left.
func fill(t *testing.T, dir string) (path string) {
	t.Helper()
	path = filepath.Join(dir, "ballast")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	if free, _ := usage(t, dir); free != 0 {
		t.Fatalf("%d bytes are still free", free)
	}
	return path
}

func fullNode(t *testing.T, dir, policy string, more map[string]string) (*nodetest.Node, *kadm.Client) {
	t.Helper()
	settings := map[string]string{
		"capacity.policy": policy, "capacity.check.interval": "100ms", "agent.period": "1s",
		"log.segment.bytes": "4194304", "storage.reserve.bytes": "8MB", "group.initial.rebalance.delay.ms": "0",
	}
	for k, v := range more {
		settings[k] = v
	}
	n := nodetest.Start(t, nodetest.Options{Dir: dir, Settings: settings})
	adm := admin(t, n)
	if _, err := adm.CreateTopic(t.Context(), 3, 1, nil, "ledger"); err != nil {
		t.Fatal(err)
	}
	return n, adm
}

// once gives a client whose produce requests are not tried again, so that each refusal shows.
func once(t *testing.T, n *nodetest.Node) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka), kgo.DefaultProduceTopic("ledger"), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()),
		kgo.DisableIdempotentWrite(), kgo.RecordRetries(0), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// eventually asks until f says yes.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	limit := time.After(time.Minute)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

func numbered(i int) *kgo.Record {
	return &kgo.Record{Value: append(fmt.Appendf(nil, "full %d ", i), bytes.Repeat([]byte{byte('a' + i%26)}, 200+i%800)...)}
}

// big makes volume quickly; the ledger does not follow it.
func big() *kgo.Record { return &kgo.Record{Topic: "bulk", Value: make([]byte, 256<<10)} }

func TestFullDiskRefusesProduce(t *testing.T) {
	dir := volume(t)
	n, adm := fullNode(t, dir, "reject", nil)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if _, err := adm.CreateTopic(ctx, 1, 1, nil, "bulk"); err != nil {
		t.Fatal(err)
	}
	c := once(t, n)
	l := newLedger("ledger", 3)
	i := 0
	produce := func() error {
		r := numbered(i)
		i++
		err := c.ProduceSync(ctx, r).FirstErr()
		if err == nil {
			l.mu.acked[place{r.Partition, r.Offset}] = fmt.Sprintf("full %d", i-1)
		}
		return err
	}
	var refusal error
	for refusal == nil {
		refusal = c.ProduceSync(ctx, big()).FirstErr()
		if refusal == nil {
			refusal = produce()
		}
	}
	if !errors.Is(refusal, kerr.KafkaStorageError) {
		t.Fatalf("past the threshold produce fails with %v, want KAFKA_STORAGE_ERROR", refusal)
	}
	if _, percent := usage(t, dir); percent < 94 {
		t.Errorf("produce was refused at %.1f %%", percent)
	}
	// Reading, administration and commits go on, down to no byte free.
	ballast := fill(t, dir)
	l.verify(ctx, t, n.Kafka, true)
	commitOne(ctx, t, adm, 7)
	if err := produce(); !errors.Is(err, kerr.KafkaStorageError) {
		t.Errorf("with no byte free produce fails with %v, want KAFKA_STORAGE_ERROR", err)
	}
	// The node lives through kill -9 and starts on the full disk.
	n.Kill()
	n.Restart()
	l.verify(ctx, t, n.Kafka, true)
	commitOne(ctx, t, adm, 9)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := produce(); !errors.Is(err, kerr.KafkaStorageError) {
		_, percent := usage(t, dir)
		t.Errorf("at %.1f %%, between 90 and 95, produce gives %v, want a refusal until usage falls below 90", percent, err)
	}
	// Below the threshold minus five points it works again by itself.
	if _, err := adm.DeleteTopics(ctx, "bulk"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "produce after space was freed", func() bool { return produce() == nil })
	l.verify(ctx, t, n.Kafka, true)
	if !strings.Contains(auditOf(n), "capacity") {
		t.Errorf("no act of the guard stands in the audit log:\n%s", auditOf(n))
	}
}

func commitOne(ctx context.Context, t *testing.T, adm *kadm.Client, at int64) {
	t.Helper()
	var os kadm.Offsets
	os.AddOffset("ledger", 0, at, -1)
	rs, err := adm.CommitOffsets(ctx, "full", os)
	if err == nil {
		err = rs.Error()
	}
	if err != nil {
		t.Errorf("cannot commit an offset on a full disk: %v", err)
	}
	got, err := adm.FetchOffsets(ctx, "full")
	if err != nil {
		t.Fatal(err)
	}
	if o, _ := got.Lookup("ledger", 0); o.At != at {
		t.Errorf("committed %d, fetched %d", at, o.At)
	}
}

// auditOf gives the node's audit log.
func auditOf(n *nodetest.Node) string {
	var all strings.Builder
	_ = filepath.WalkDir(n.Dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.Contains(path, "audit") && !d.IsDir() {
			b, _ := os.ReadFile(path) // a file that vanished has nothing to say
			all.Write(b)
		}
		return nil
	})
	return all.String()
}

func TestFullDiskDeletesTheOldest(t *testing.T) {
	dir := volume(t)
	n, adm := fullNode(t, dir, "delete", nil)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if _, err := adm.CreateTopic(ctx, 2, 1, nil, "bulk"); err != nil {
		t.Fatal(err)
	}
	c := once(t, n)
	if err := c.ProduceSync(ctx, numbered(0)).FirstErr(); err != nil {
		t.Fatal(err)
	}
	refused := 0
	for sent := 0; sent < 2*volumeBytes; sent += 256 << 10 {
		if err := c.ProduceSync(ctx, big()).FirstErr(); err != nil {
			refused++
			if !errors.Is(err, kerr.KafkaStorageError) {
				t.Fatalf("produce fails with %v", err)
			}
		}
	}
	if refused > 0 {
		t.Errorf("%d produce requests were refused under the delete policy", refused)
	}
	starts, err := adm.ListStartOffsets(ctx, "bulk")
	if err != nil {
		t.Fatal(err)
	}
	moved := false
	starts.Each(func(o kadm.ListedOffset) { moved = moved || o.Offset > 0 })
	if !moved {
		t.Error("no log start has moved: nothing was deleted")
	}
	outOfRange(ctx, t, n)
	ballast := fill(t, dir)
	eventually(t, "produce on a disk that others filled, by deleting", func() bool {
		return c.ProduceSync(ctx, big()).FirstErr() == nil
	})
	commitOne(ctx, t, adm, 3)
	n.Kill()
	n.Restart()
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	eventually(t, "produce after space was freed", func() bool { return c.ProduceSync(ctx, big()).FirstErr() == nil })
	commitOne(ctx, t, adm, 5)
}

// outOfRange asks for what was deleted: a consumer without a reset policy is told.
func outOfRange(ctx context.Context, t *testing.T, n *nodetest.Node) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"bulk": {0: kgo.NewOffset().At(0)}}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.PollFetches(ctx).Err(); !errors.Is(err, kerr.OffsetOutOfRange) {
		t.Errorf("fetching a deleted offset gives %v, want OFFSET_OUT_OF_RANGE", err)
	}
}
