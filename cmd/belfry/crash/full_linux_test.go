package crash

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

// volumeBytes is the size of the file system that the tests fill.
const volumeBytes = 256 << 20

// inNamespace marks the copy of the test program that runs where it may mount.
const inNamespace = "BELFRY_CRASH_NAMESPACE"

// TestMain runs the tests in a mount namespace of their own, so that no file system stays behind, whoever runs them.
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
		fmt.Fprintln(os.Stderr, "cannot run the tests in a mount namespace of their own:", err)
		os.Exit(1)
	}
}

// volume mounts a file system of its own that ends with the test.
func volume(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		t.Fatalf("cannot make mounts private: %v", err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", volumeBytes)); err != nil {
		t.Fatalf("cannot mount a tmpfs of 256 MB: %v", err)
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

func fullNode(t *testing.T, dir, policy, threshold string) (*nodetest.Node, *kadm.Client) {
	t.Helper()
	n := nodetest.Start(t, nodetest.Options{Dir: dir, Settings: map[string]string{
		"capacity.policy": policy, "capacity.threshold": threshold, "agent.period": "1s", "log.segment.bytes": "4194304", "storage.reserve.bytes": "8MB",
		"log.segment.delete.delay.ms": "0", "group.initial.rebalance.delay.ms": "0",
	}})
	adm := admin(t, n)
	if _, err := adm.CreateTopic(t.Context(), 3, 1, nil, "ledger"); err != nil {
		t.Fatal(err)
	}
	return n, adm
}

// once gives a client whose produce requests are not tried again, so that each refusal shows.
func once(t *testing.T, n *nodetest.Node) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()),
		kgo.DisableIdempotentWrite(), kgo.RecordRetries(0), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// filler produces the numbered messages of one ledger, one at a time.
type filler struct {
	l    *ledger
	next int
}

func (f *filler) send(ctx context.Context, t *testing.T, c *kgo.Client) error {
	t.Helper()
	i := f.next
	f.next++
	r := f.l.message("full", i)
	err := c.ProduceSync(ctx, r).FirstErr()
	if err == nil {
		f.l.note(t, r, "full", i)
	}
	return err
}

// refusal sends until the broker itself answers with an error.
func (f *filler) refusal(ctx context.Context, t *testing.T, c *kgo.Client) {
	t.Helper()
	for {
		err := f.send(ctx, t, c)
		var answer *kerr.Error
		switch {
		case errors.Is(err, kerr.KafkaStorageError):
			return
		case err == nil:
			t.Fatal("produce is accepted, want a refusal")
		case errors.As(err, &answer), ctx.Err() != nil:
			t.Fatalf("produce fails with %v, want KAFKA_STORAGE_ERROR", err)
		}
	}
}

// untilRefused fills the disk with messages of a topic in bulk, some of the ledger's between them.
func (f *filler) untilRefused(ctx context.Context, t *testing.T, c *kgo.Client) {
	t.Helper()
	var refusal error
	for refusal == nil {
		if refusal = c.ProduceSync(ctx, &kgo.Record{Topic: "bulk", Value: make([]byte, 256<<10)}).FirstErr(); refusal == nil {
			refusal = f.send(ctx, t, c)
		}
	}
	if !errors.Is(refusal, kerr.KafkaStorageError) {
		t.Fatalf("on a full disk produce fails with %v, want KAFKA_STORAGE_ERROR", refusal)
	}
}

func TestFullDiskRefusesProduce(t *testing.T) {
	dir := volume(t)
	n, adm := fullNode(t, dir, "reject", "95")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if _, err := adm.CreateTopic(ctx, 1, 1, nil, "bulk"); err != nil {
		t.Fatal(err)
	}
	c := once(t, n)
	f := &filler{l: newLedger("ledger", 3)}
	f.untilRefused(ctx, t, c)
	if _, percent := usage(t, dir); percent < 94 {
		t.Errorf("produce was refused at %.1f %%", percent)
	}
	eventually(t, "the guard acts", func() bool { return says(n, "belfry_guard_rejecting", "") })
	// Everything but produce goes on, down to no byte free.
	ballast := fill(t, dir)
	f.refusal(ctx, t, c)
	if text := refusalText(ctx, t, c); !strings.Contains(text, "95 %") {
		t.Errorf("the refusal says %q, which names no threshold", text)
	}
	works(ctx, t, n, adm, f.l, 7)
	eventually(t, "an alarm about the disk", func() bool { return says(n, "belfry_alarm_state", `rule="broker_disk_usage"`) })
	eventually(t, "an alarm about the guard", func() bool { return says(n, "belfry_alarm_state", `rule="guard_rejecting"`) })
	eventually(t, "refusals are counted", func() bool { return says(n, "belfry_guard_rejected_requests_total", "") })
	// The node lives through kill -9, through a clean stop, and starts on the full disk.
	for i, end := range []func(){n.Kill, n.Stop} {
		end()
		n.Restart()
		c = once(t, n)
		f.refusal(ctx, t, c)
		works(ctx, t, n, adm, f.l, int64(9+i))
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	f.refusal(ctx, t, c) // by hysteresis: nothing that is ours has gone
	// Below the threshold minus five points it works again by itself.
	if _, err := adm.DeleteTopics(ctx, "bulk"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "produce after space was freed", func() bool { return f.send(ctx, t, c) == nil })
	f.l.verify(ctx, t, n.Kafka)
	eventually(t, "the audit log has both", func() bool {
		audit := auditOf(n)
		return strings.Contains(audit, "capacity_refuse_began") && strings.Contains(audit, "capacity_refuse_ended")
	})
}

// works tries all that a full disk does not stop: reading, offsets, topics made and deleted.
func works(ctx context.Context, t *testing.T, n *nodetest.Node, adm *kadm.Client, l *ledger, at int64) {
	t.Helper()
	l.verify(ctx, t, n.Kafka)
	commitOne(ctx, t, adm, at)
	name := fmt.Sprint("made-on-a-full-disk-", at)
	if r, err := adm.CreateTopic(ctx, 1, 1, nil, name); err != nil || r.Err != nil {
		t.Errorf("cannot create a topic on a full disk: %v, %v", err, r.Err)
	}
	if rs, err := adm.DeleteTopics(ctx, name); err != nil || rs.Error() != nil {
		t.Errorf("cannot delete a topic on a full disk: %v, %v", err, rs.Error())
	}
	if code, body := n.HTTP("/readyz"); code != 200 {
		t.Errorf("a full disk makes the node not ready: %d %s", code, body)
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

// refusalText gives the text beside the error code of a produce request.
func refusalText(ctx context.Context, t *testing.T, c *kgo.Client) string {
	t.Helper()
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = 9, -1, 5000
	described, err := kadm.NewClient(c).ListTopics(ctx, "ledger")
	if err != nil {
		t.Fatal(err)
	}
	part := kmsg.NewProduceRequestTopic()
	part.Topic, part.TopicID = "ledger", described["ledger"].ID
	p := kmsg.NewProduceRequestTopicPartition()
	p.Records = []byte("not looked at: the refusal comes first")
	part.Partitions = append(part.Partitions, p)
	req.Topics = append(req.Topics, part)
	resp, err := c.Broker(0).RetriableRequest(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	a := resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	if a.ErrorCode != kerr.KafkaStorageError.Code || a.ErrorMessage == nil {
		t.Fatalf("answer %+v, want KAFKA_STORAGE_ERROR with a text", a)
	}
	return *a.ErrorMessage
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

// TestFullDiskDeletesTheOldest lets ordinary producers run at full speed into a small disk.
// Produce goes on: no producer is ever told an error, though the disk may have been full for
// moments, for what the broker then answers is tried again by every client. What was
// acknowledged and not deleted since is there and right.
func TestFullDiskDeletesTheOldest(t *testing.T) {
	dir := volume(t)
	n, adm := fullNode(t, dir, "delete", "95")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	l := newLedger("ledger", 3)
	l.scale, l.trimmed = 64, true
	load, stop := context.WithCancel(ctx)
	var workers sync.WaitGroup
	for _, name := range []string{"a", "b"} {
		workers.Go(func() { l.produce(load, t, n.Kafka, name, kgo.ProducerBatchCompression(kgo.NoCompression())) })
	}
	const average = 64 * 600
	workers.Go(func() {
		if l.follow(load, t, n.Kafka, "readers") == 0 {
			t.Error("a member of a group read nothing")
		}
	})
	until := func(bytes int) {
		t.Helper()
		began := time.Now()
		awaitAcks(t, l, l.count()+bytes/average)
		t.Logf("%d MB in %v", bytes>>20, time.Since(began).Round(time.Millisecond))
	}
	until(2 * volumeBytes)
	outOfRange(ctx, t, n)
	commitOne(ctx, t, adm, 3)
	// Somebody else takes what is left.
	ballast := fill(t, dir)
	until(volumeBytes / 4)
	commitOne(ctx, t, adm, 4)
	for i, end := range []func(){n.Kill, n.Stop} {
		end()
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		fill(t, dir)
		n.Restart()
		until(volumeBytes / 8)
		commitOne(ctx, t, adm, int64(5+i))
	}
	stop()
	workers.Wait()
	eventually(t, "usage below the threshold", func() bool { _, percent := usage(t, dir); return percent < 95 })
	l.verify(ctx, t, n.Kafka)
	for _, series := range []string{"belfry_guard_deletions_total", "belfry_guard_deleted_bytes_total"} {
		eventually(t, series, func() bool { return says(n, series, "") })
	}
	if audit := auditOf(n); !strings.Contains(audit, "capacity_deleted") {
		t.Errorf("no deletion stands in the audit log:\n%s", audit)
	}
}

// TestFullDiskWithoutTheGuard lets producers run into the end of the disk: the guard's threshold is never reached first.
func TestFullDiskWithoutTheGuard(t *testing.T) {
	n, adm := fullNode(t, volume(t), "reject", "100")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if _, err := adm.CreateTopic(ctx, 1, 1, nil, "bulk"); err != nil {
		t.Fatal(err)
	}
	f := &filler{l: newLedger("ledger", 3)}
	f.untilRefused(ctx, t, once(t, n))
	works(ctx, t, n, adm, f.l, 1)
	n.Kill()
	n.Restart()
	works(ctx, t, n, adm, f.l, 2)
	if rs, err := adm.DeleteRecords(ctx, kadm.Offsets{"bulk": {0: {Topic: "bulk", At: -1}}}); err != nil || rs.Error() != nil {
		t.Fatalf("cannot delete records on a full disk: %v, %v", err, rs.Error())
	}
	c := once(t, n)
	eventually(t, "produce after space was freed", func() bool { return f.send(ctx, t, c) == nil })
	f.l.verify(ctx, t, n.Kafka)
}

// outOfRange asks for what was deleted: a consumer without a reset policy is told.
func outOfRange(ctx context.Context, t *testing.T, n *nodetest.Node) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"ledger": {0: kgo.NewOffset().At(0)}}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.PollFetches(ctx).Err(); !errors.Is(err, kerr.OffsetOutOfRange) {
		t.Errorf("fetching a deleted offset gives %v, want OFFSET_OUT_OF_RANGE", err)
	}
}
