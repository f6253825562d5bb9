package api_test

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/brokertest"
)

// alterDirs asks for one partition to be moved and gives the code.
func (w *world) alterDirs(t *testing.T, v int16, topic string, partition int32, dir string) int16 {
	t.Helper()
	req := kmsg.NewPtrAlterReplicaLogDirsRequest()
	req.Version = v
	d := kmsg.NewAlterReplicaLogDirsRequestDir()
	d.Dir = dir
	rt := kmsg.NewAlterReplicaLogDirsRequestDirTopic()
	rt.Topic, rt.Partitions = topic, []int32{partition}
	d.Topics = append(d.Topics, rt)
	req.Dirs = append(req.Dirs, d)
	resp := w.raw.ask(req).(*kmsg.AlterReplicaLogDirsResponse)
	if len(resp.Topics) != 1 || resp.Topics[0].Topic != topic || len(resp.Topics[0].Partitions) != 1 || resp.Topics[0].Partitions[0].Partition != partition {
		t.Fatalf("answer %+v, want partition %d of %s", resp.Topics, partition, topic)
	}
	return resp.Topics[0].Partitions[0].ErrorCode
}

func askAlterReplicaLogDirs(t *testing.T, w *world, v int16) {
	code(t, w.alterDirs(t, v, "t", 0, w.node.DataDir()), nil)
	code(t, w.alterDirs(t, v, "t", 0, "/elsewhere"), kerr.LogDirNotFound)
	code(t, w.alterDirs(t, v, "t", 9, w.node.DataDir()), kerr.UnknownTopicOrPartition)
	code(t, w.alterDirs(t, v, "nowhere", 0, w.node.DataDir()), kerr.UnknownTopicOrPartition)
	code(t, w.alterDirs(t, v, "not a name", 0, w.node.DataDir()), kerr.UnknownTopicOrPartition)
}

// dirsOf gives where the log of a topic's partition 0 and its copy lie.
func (w *world) dirsOf(t *testing.T, name string) (dir, future string) {
	t.Helper()
	req := kmsg.NewPtrDescribeLogDirsRequest()
	req.Version = 4
	for _, d := range w.raw.ask(req).(*kmsg.DescribeLogDirsResponse).Dirs {
		for _, rt := range d.Topics {
			for _, p := range rt.Partitions {
				switch {
				case rt.Topic != name:
				case p.IsFuture:
					future = d.Dir
				default:
					dir = d.Dir
				}
			}
		}
	}
	return dir, future
}

// TestMovePartition moves a partition to the other directory while it is written to, slowly
// first so that it can be seen on its way and be called back.
func TestMovePartition(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	w := &world{node: brokertest.Start(t, brokertest.Dir(one), brokertest.More(two), brokertest.Set(map[string]string{
		"replica.alter.log.dirs.io.max.bytes.per.second": "2000",
	}))}
	w.raw = dialRaw(t, w.node.Addr())
	code(t, w.alterDirs(t, 2, "later", 0, two), kerr.UnknownTopicOrPartition)
	w.createTopic(t, "later", 1)
	if dir, _ := w.dirsOf(t, "later"); dir != two {
		t.Errorf("the topic was made in %s, and %s was asked for", dir, two)
	}
	for i := range 100 {
		w.produce(t, "later", batchOf("a value of some length, so that the copy takes a while", int64(1000+i)))
	}
	code(t, w.alterDirs(t, 2, "later", 0, one), nil)
	if dir, future := w.dirsOf(t, "later"); dir != two || future != one {
		t.Errorf("on its way the partition is in %s and will be in %q", dir, future)
	}
	code(t, w.alterDirs(t, 2, "later", 0, two), nil)
	if dir, future := w.dirsOf(t, "later"); dir != two || future != "" {
		t.Errorf("called back the partition is in %s and will be in %q", dir, future)
	}
	w.setBroker(t, "replica.alter.log.dirs.io.max.bytes.per.second", "100000000")
	code(t, w.alterDirs(t, 2, "later", 0, one), nil)
	next := int64(100)
	for limit := time.Now().Add(30 * time.Second); ; {
		if p := w.produce(t, "later", batchOf("x", 5000)); p.BaseOffset != next {
			t.Fatalf("record %d got offset %d", next, p.BaseOffset)
		}
		next++
		dir, future := w.dirsOf(t, "later")
		if dir == one && future == "" {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("the partition is in %s and will be in %q", dir, future)
		}
	}
	w.node.Restart(nil, nil)
	w.raw = dialRaw(t, w.node.Addr())
	if dir, future := w.dirsOf(t, "later"); dir != one || future != "" {
		t.Errorf("after the restart the partition is in %s and will be in %q", dir, future)
	}
	if p := w.produce(t, "later", batchOf("x", 5000)); p.BaseOffset != next {
		t.Errorf("after the restart record %d got offset %d", next, p.BaseOffset)
	}
}

// setBroker changes a setting of all brokers.
func (w *world) setBroker(t *testing.T, name, value string) {
	t.Helper()
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.Version = 1
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType = kmsg.ConfigResourceTypeBroker
	c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	c.Name, c.Value = name, kmsg.StringPtr(value)
	r.Configs = append(r.Configs, c)
	req.Resources = append(req.Resources, r)
	code(t, w.raw.ask(req).(*kmsg.IncrementalAlterConfigsResponse).Resources[0].ErrorCode, nil)
}
