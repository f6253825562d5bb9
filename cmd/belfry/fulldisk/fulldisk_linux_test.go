package fulldisk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

const (
	topicName  = "orders"
	partitions = 3
	volumeSize = 256 << 20
	valueSize  = 16 << 10
	patience   = 60 * time.Second
)

// inNamespace marks the copy of the test that runs where it may mount.
const inNamespace = "BELFRY_FULLDISK_NAMESPACE"

// TestMain runs the tests in a mount namespace of their own, so that no file system stays behind, as whoever runs them.
func TestMain(m *testing.M) {
	if os.Getenv(inNamespace) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	case err != nil:
		fmt.Fprintln(os.Stderr, "cannot run the tests in a mount namespace:", err)
		os.Exit(1)
	}
}

// mount gives a file system of its own size.
func mount(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		t.Fatalf("cannot make mounts private: %v", err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", volumeSize)); err != nil {
		t.Fatalf("cannot mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("cannot unmount: %v", err)
		}
	})
	return dir
}

// start runs a node on a volume of its own.
func start(t *testing.T, settings map[string]string) (*nodetest.Node, string) {
	t.Helper()
	dir := mount(t)
	all := map[string]string{"agent.period": "1s", "capacity.check.interval": "1s", "offsets.topic.num.partitions": "1"}
	for name, value := range settings {
		all[name] = value
	}
	node := nodetest.Start(t, nodetest.Options{Dir: dir, Settings: all})
	admin := kadm.NewClient(client(t, node))
	segment, now := "2097152", "0"
	configs := map[string]*string{"segment.bytes": &segment, "file.delete.delay.ms": &now}
	if _, err := admin.CreateTopic(t.Context(), partitions, 1, configs, topicName); err != nil {
		t.Fatal(err)
	}
	return node, dir
}

func client(t *testing.T, node *nodetest.Node, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(options, kgo.SeedBrokers(node.Kafka), kgo.RetryTimeout(patience))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// ledger knows which messages were acknowledged, by partition and offset.
type ledger struct {
	mu    sync.Mutex
	acked map[int32]map[int64]uint64 // the number in the message
	next  atomic.Uint64
}

func newLedger() *ledger { return &ledger{acked: map[int32]map[int64]uint64{}} }

func (l *ledger) record() *kgo.Record {
	n := l.next.Add(1)
	value := make([]byte, valueSize)
	binary.BigEndian.PutUint64(value, n)
	return &kgo.Record{Topic: topicName, Partition: int32(n % partitions), Value: value}
}

func (l *ledger) note(r *kgo.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.acked[r.Partition] == nil {
		l.acked[r.Partition] = map[int64]uint64{}
	}
	l.acked[r.Partition][r.Offset] = binary.BigEndian.Uint64(r.Value)
}

// send produces n messages, each until it is acknowledged or fails; it gives the first failure.
func (l *ledger) send(ctx context.Context, c *kgo.Client, n int) error {
	var records []*kgo.Record
	for range n {
		records = append(records, l.record())
	}
	var first error
	for _, r := range c.ProduceSync(ctx, records...) {
		switch {
		case r.Err == nil:
			l.note(r.Record)
		case first == nil:
			first = r.Err
		}
	}
	return first
}

// verify reads everything that is there: each acknowledged message from the log start on has to be, as it was sent.
func (l *ledger) verify(t *testing.T, node *nodetest.Node) (starts, ends int64) {
	t.Helper()
	admin := kadm.NewClient(client(t, node))
	from, err := admin.ListStartOffsets(t.Context(), topicName)
	if err != nil {
		t.Fatal(err)
	}
	to, err := admin.ListEndOffsets(t.Context(), topicName)
	if err != nil {
		t.Fatal(err)
	}
	reader := client(t, node, kgo.ConsumeTopics(topicName), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	got := map[int32]map[int64]uint64{}
	left := int64(0)
	to.Each(func(end kadm.ListedOffset) {
		begin, _ := from.Lookup(topicName, end.Partition)
		starts, ends = starts+begin.Offset, ends+end.Offset
		left += end.Offset - begin.Offset
		got[end.Partition] = map[int64]uint64{}
	})
	for left > 0 {
		fetches := reader.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%d messages were not read: %v", left, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			got[r.Partition][r.Offset] = binary.BigEndian.Uint64(r.Value)
			left--
		})
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	lost := 0
	for partition, acked := range l.acked {
		begin, _ := from.Lookup(topicName, partition)
		for offset, n := range acked {
			if offset >= begin.Offset && got[partition][offset] != n {
				lost++
			}
		}
	}
	if lost > 0 {
		t.Errorf("%d acknowledged messages are lost or damaged", lost)
	}
	return starts, ends
}

// fill takes every byte of the volume that is left, with a file of somebody else.
func fill(t *testing.T, dir string) (remove func()) {
	t.Helper()
	path := filepath.Join(dir, "somebody-elses")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	chunk := make([]byte, 4096)
	for {
		if _, err = f.Write(chunk); err != nil {
			break
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	}
}

func free(t *testing.T, dir string) int64 {
	t.Helper()
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		t.Fatal(err)
	}
	return int64(s.Bavail) * s.Bsize
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-limit:
			t.Fatalf("%s: not within %v", what, patience)
		case <-tick.C:
		}
	}
}

// says tells whether the node's metrics page has a line that begins so and does not end in 0.
func says(node *nodetest.Node, metric string) bool {
	_, page := node.HTTP("/metrics")
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, metric+"{") && !strings.HasSuffix(strings.TrimSpace(line), "} 0") {
			return true
		}
	}
	return false
}

// commit stores an offset: what groups need while a disk is full.
func commit(t *testing.T, node *nodetest.Node, offset int64) error {
	t.Helper()
	offsets := kadm.Offsets{}
	offsets.AddOffset(topicName, 0, offset, -1)
	return kadm.NewClient(client(t, node)).CommitAllOffsets(t.Context(), "billing", offsets)
}

func TestDeletePolicyKeepsProducersGoing(t *testing.T) {
	node, dir := start(t, map[string]string{"capacity.policy": "delete"})
	l := newLedger()
	producer := client(t, node, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()))
	// Somebody reads along, from the earliest message that is there.
	reader := client(t, node, kgo.ConsumeTopics(topicName), kgo.ConsumerGroup("billing"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ctx, cancel := context.WithCancel(t.Context())
	var read atomic.Int64
	var reading sync.WaitGroup
	reading.Go(func() {
		for ctx.Err() == nil {
			read.Add(int64(reader.PollFetches(ctx).NumRecords()))
		}
	})
	const total = 3 * volumeSize / valueSize
	for sent := 0; sent < total; sent += 256 {
		if err := l.send(t.Context(), producer, 256); err != nil {
			t.Fatalf("produce under delete after %d messages: %v", sent, err)
		}
	}
	cancel()
	reading.Wait()
	eventually(t, "room on the disk", func() bool { return free(t, dir) > volumeSize/20 })
	starts, ends := l.verify(t, node)
	if ends != total || starts == 0 {
		t.Errorf("log starts sum up to %d, ends to %d; want something and %d", starts, ends, total)
	}
	if read.Load() == 0 {
		t.Error("nothing was read meanwhile")
	}
	if !says(node, "belfry_guard_deletions_total") {
		t.Error("no deletion is counted")
	}
}

func TestRejectPolicyDownToTheLastByte(t *testing.T) {
	node, dir := start(t, map[string]string{"capacity.policy": "reject"})
	l := newLedger()
	options := []kgo.Opt{kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RecordRetries(0), kgo.DisableIdempotentWrite(), kgo.ProducerBatchCompression(kgo.NoCompression())}
	producer := client(t, node, options...)
	var refusal error
	for sent := 0; refusal == nil && sent < 2*volumeSize; sent += 64 * valueSize {
		refusal = l.send(t.Context(), producer, 64)
	}
	if !errors.Is(refusal, kerr.KafkaStorageError) {
		t.Fatalf("refusal %v, want KAFKA_STORAGE_ERROR", refusal)
	}
	remove := fill(t, dir)
	if left := free(t, dir); left != 0 {
		t.Fatalf("%d bytes are free", left)
	}
	// At 0 bytes: produce fails clearly, everything else goes on.
	eventually(t, "the guard refuses", func() bool { return says(node, "belfry_guard_rejecting") })
	if err := l.send(t.Context(), producer, 1); !errors.Is(err, kerr.KafkaStorageError) {
		t.Errorf("produce on a full disk: %v", err)
	}
	if err := commit(t, node, 1); err != nil {
		t.Errorf("offset commit on a full disk: %v", err)
	}
	l.verify(t, node)
	// A node that dies on a full disk comes back on it, and still refuses.
	node.Kill()
	node.Restart()
	producer = client(t, node, options...)
	l.verify(t, node)
	if err := l.send(t.Context(), producer, 1); !errors.Is(err, kerr.KafkaStorageError) {
		t.Errorf("produce on a full disk after a restart: %v", err)
	}
	if err := commit(t, node, 2); err != nil {
		t.Errorf("offset commit on a full disk after a restart: %v", err)
	}
	// The other file goes, and messages: produce works again by itself.
	remove()
	forget(t, node)
	eventually(t, "produce accepted again", func() bool { return l.send(t.Context(), producer, 1) == nil })
	l.verify(t, node)
}

// forget deletes nine tenths of the topic.
func forget(t *testing.T, node *nodetest.Node) {
	t.Helper()
	admin := kadm.NewClient(client(t, node))
	ends, err := admin.ListEndOffsets(t.Context(), topicName)
	if err != nil {
		t.Fatal(err)
	}
	until := kadm.Offsets{}
	ends.Each(func(o kadm.ListedOffset) { until.AddOffset(o.Topic, o.Partition, o.Offset*9/10, -1) })
	deleted, err := admin.DeleteRecords(t.Context(), until)
	if err == nil {
		err = deleted.Error()
	}
	if err != nil {
		t.Fatalf("delete records: %v", err)
	}
}

// TestNoSpaceWithoutTheGuard lets producers run into the end of the disk: the guard's threshold is never reached first.
func TestNoSpaceWithoutTheGuard(t *testing.T) {
	node, dir := start(t, map[string]string{"capacity.policy": "reject", "capacity.threshold": "100"})
	l := newLedger()
	producer := client(t, node, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RecordRetries(0), kgo.DisableIdempotentWrite(), kgo.ProducerBatchCompression(kgo.NoCompression()))
	var refusal error
	for sent := 0; refusal == nil && sent < 2*volumeSize; sent += 64 * valueSize {
		refusal = l.send(t.Context(), producer, 64)
	}
	if !errors.Is(refusal, kerr.KafkaStorageError) {
		t.Fatalf("refusal %v with %d bytes free, want KAFKA_STORAGE_ERROR", refusal, free(t, dir))
	}
	l.verify(t, node)
	node.Kill()
	node.Restart()
	l.verify(t, node)
	forget(t, node)
	producer = client(t, node, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	eventually(t, "produce accepted again", func() bool { return l.send(t.Context(), producer, 64) == nil })
	l.verify(t, node)
}
