package broker_test

import (
	"context"
	"errors"
	"path"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/belfry-mq/belfry/broker"
	"github.com/belfry-mq/belfry/broker/brokertest"
	"github.com/belfry-mq/belfry/broker/storage/disk"
)

const patience = 20 * time.Second

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// producer gives a client that says at once when a produce fails.
func producer(t *testing.T, addr string) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.RecordRetries(0), kgo.DisableIdempotentWrite(),
		kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func produce(t *testing.T, cl *kgo.Client, topic string, size int) error {
	t.Helper()
	return cl.ProduceSync(soon(t), &kgo.Record{Topic: topic, Value: make([]byte, size)}).FirstErr()
}

// TestFullDisk: a full disk refuses produce in words that a client may try again
// upon, serves what is there, and takes records again when there is room.
func TestFullDisk(t *testing.T) {
	memory := disk.NewMemory(64 << 20)
	node := brokertest.Start(t, brokertest.FS(memory), brokertest.Set(map[string]string{"log.segment.delete.delay.ms": "0"}))
	cl := producer(t, node.Addr())
	segment := "1048576"
	if _, err := kadm.NewClient(cl).CreateTopic(soon(t), 1, 1, map[string]*string{"segment.bytes": &segment}, "fill"); err != nil {
		t.Fatal(err)
	}
	var err error
	n := 0
	for ; err == nil && n < 1000; n++ {
		err = produce(t, cl, "fill", 512<<10)
	}
	if !errors.Is(err, kerr.KafkaStorageError) {
		t.Fatalf("a full disk gives %v after %d records, want KAFKA_STORAGE_ERROR", err, n)
	}
	listed, err := kadm.NewClient(cl).ListEndOffsets(soon(t), "fill")
	if err != nil {
		t.Fatal(err)
	}
	if o, _ := listed.Lookup("fill", 0); o.Offset != int64(n-1) {
		t.Errorf("%d records are readable, %d were acknowledged", o.Offset, n-1)
	}
	if ready, why := node.Ready(); !ready {
		t.Errorf("a full disk makes the node not ready: %v", why)
	}
	freed, err := node.FreeOldest(soon(t), 8<<20)
	if err != nil || freed < 8<<20 {
		t.Fatalf("freed %d bytes: %v", freed, err)
	}
	brokertest.Eventually(t, "records are taken again", func() bool { return produce(t, cl, "fill", 512<<10) == nil })
}

// TestLastDirectoryFails: a disk that fails its writes is not tried again (R19); the
// clients are told, and with its last directory the node ends with an error.
func TestLastDirectoryFails(t *testing.T) {
	var broken atomic.Bool
	fs := disk.NewFaulty(disk.NewMemory(0), func(op disk.Op) *disk.Fault {
		if broken.Load() && (op.Kind == disk.Write || op.Kind == disk.SyncFile) && path.Ext(op.Name) == ".log" {
			return &disk.Fault{Err: syscall.EIO}
		}
		return nil
	})
	b, err := broker.New(broker.Options{Values: settings(t, nil), Dirs: []string{t.TempDir()}, FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- b.Run(context.Background()) }()
	brokertest.Eventually(t, "the node is ready", func() bool { ready, _ := b.Ready(); return ready })
	cl := producer(t, b.Addr("PLAINTEXT").String())
	if _, err := kadm.NewClient(cl).CreateTopic(soon(t), 1, 1, nil, "lost"); err != nil {
		t.Fatal(err)
	}
	if err := produce(t, cl, "lost", 10); err != nil {
		t.Fatal(err)
	}
	broken.Store(true)
	if err := produce(t, cl, "lost", 10); err == nil {
		t.Error("a record that is not on disk is acknowledged")
	}
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "every log directory has failed") {
			t.Errorf("the node ended with %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the node goes on without a log directory")
	}
}

// TestTopicOnFullDisk: a topic that is made while the disk is full works as soon as
// there is room, without anybody's help.
func TestTopicOnFullDisk(t *testing.T) {
	memory := disk.NewMemory(0)
	node := brokertest.Start(t, brokertest.FS(memory))
	cl := producer(t, node.Addr())
	memory.SetCapacity(memory.Used())
	if _, err := kadm.NewClient(cl).CreateTopic(soon(t), 1, 1, nil, "early"); err != nil {
		t.Fatal(err)
	}
	if err := produce(t, cl, "early", 10); !errors.Is(err, kerr.KafkaStorageError) {
		t.Errorf("a partition without a log gives %v, want KAFKA_STORAGE_ERROR", err)
	}
	memory.SetCapacity(0)
	brokertest.Eventually(t, "records are taken", func() bool { return produce(t, cl, "early", 10) == nil })
}

// split is a file system of which one directory lies on another disk.
type split struct {
	disk.FS
	dir   string
	other disk.FS
}

func (s split) Open(path string) (disk.Dir, error) {
	if path == s.dir {
		return s.other.Open(path)
	}
	return s.FS.Open(path)
}

// TestOneDirectoryFails: the partitions of a directory whose disk fails are offline,
// those of the other go on, also over a restart.
func TestOneDirectoryFails(t *testing.T) {
	var broken atomic.Bool
	good, bad := t.TempDir(), t.TempDir()
	memory := disk.NewMemory(0)
	fs := split{FS: memory, dir: bad, other: disk.NewFaulty(memory, func(op disk.Op) *disk.Fault {
		if broken.Load() {
			return &disk.Fault{Err: syscall.EIO}
		}
		return nil
	})}
	start := func() (*broker.Broker, func()) {
		b, err := broker.New(broker.Options{Values: settings(t, nil), Dirs: []string{good, bad}, FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- b.Run(ctx) }()
		brokertest.Eventually(t, "the node is ready", func() bool { ready, _ := b.Ready(); return ready })
		return b, func() {
			cancel()
			if err := <-done; err != nil && !broken.Load() {
				t.Errorf("the node ended with %v", err)
			}
		}
	}
	b, stop := start()
	cl := producer(t, b.Addr("PLAINTEXT").String())
	topics := []string{"a", "b", "c", "d"}
	if _, err := kadm.NewClient(cl).CreateTopics(soon(t), 1, 1, nil, topics...); err != nil {
		t.Fatal(err)
	}
	served := func(cl *kgo.Client) (n int) {
		for _, topic := range topics {
			if err := produce(t, cl, topic, 10); err == nil {
				n++
			} else if !errors.Is(err, kerr.KafkaStorageError) {
				t.Errorf("%s: %v", topic, err)
			}
		}
		return n
	}
	if n := served(cl); n != 4 {
		t.Fatalf("%d of 4 topics are served", n)
	}
	broken.Store(true)
	served(cl) // meets the failure
	if n := served(cl); n != 2 {
		t.Errorf("%d topics are served after one of two disks failed, want 2", n)
	}
	dirs := b.Dirs()
	if len(dirs) != 2 || dirs[0].Err != nil || dirs[1].Err == nil {
		t.Errorf("directories are %+v, want the second offline", dirs)
	}
	stop()
	b, stop = start()
	if n := served(producer(t, b.Addr("PLAINTEXT").String())); n != 2 {
		t.Errorf("%d topics are served after a restart without one disk, want 2", n)
	}
	stop()
	broken.Store(false)
	b, stop = start()
	if n := served(producer(t, b.Addr("PLAINTEXT").String())); n != 4 {
		t.Errorf("%d topics are served when the disk is back, want 4", n)
	}
	stop()
}
