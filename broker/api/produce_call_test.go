package api

import (
	"bytes"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestAppendProduced compares answers written by hand with kmsg's.
func TestAppendProduced(t *testing.T) {
	for version := range int16(14) {
		resp := kmsg.NewPtrProduceResponse()
		resp.Version = version
		for i, name := range []string{"orders", "", string(bytes.Repeat([]byte{'x'}, 249))} {
			topic := kmsg.NewProduceResponseTopic()
			topic.Topic, topic.TopicID = name, [16]byte{1, byte(i)}
			for n := range int32(130 * i) {
				p := kmsg.NewProduceResponseTopicPartition()
				p.Partition, p.BaseOffset, p.LogAppendTime, p.LogStartOffset = n, 1<<40+int64(n), -1, int64(n)
				topic.Partitions = append(topic.Partitions, p)
			}
			resp.Topics = append(resp.Topics, topic)
		}
		if got, want := appendProduced(nil, version, resp.Topics), resp.AppendTo(nil); !bytes.Equal(got, want) {
			t.Errorf("version %d: by hand\n%x, want\n%x", version, got, want)
		}
	}
}
