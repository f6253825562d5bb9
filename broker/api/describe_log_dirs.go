package api

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/stats"
	"github.com/belfry-mq/belfry/broker/topic"
	"github.com/belfry-mq/belfry/broker/wire"
)

// describeLogDirs answers DescribeLogDirs 0–5 (sizes of the file system in 4, KIP-827;
// cordoned directories in 5, KIP-1066: there are none here). An agent that watches brokers
// asks with a tag for what they have counted of each topic, see stats.TagTraffic.
func (a *API) describeLogDirs(r *wire.Request) {
	req := r.Body.(*kmsg.DescribeLogDirsRequest)
	resp := kmsg.NewPtrDescribeLogDirsResponse()
	asked := describedLogs(req)
	byDir := map[string][]describedLog{}
	for _, l := range a.disks.Logs() {
		if asked(l.Partition()) {
			byDir[l.Dir()] = append(byDir[l.Dir()], describedLog{l.Partition(), l.Size(), max(0, l.HighWatermark()-l.End()), false})
			if f, moving := l.Future(); moving {
				byDir[f.Dir] = append(byDir[f.Dir], describedLog{l.Partition(), f.Size, max(0, l.End()-f.End), true})
			}
		}
	}
	if r.Version >= 2 {
		req.UnknownTags.Each(func(tag uint32, _ []byte) {
			if tag == stats.TagTraffic && a.traffic != nil {
				resp.UnknownTags.Set(stats.TagTraffic, a.traffic().Append(nil))
			}
		})
	}
	var code first
	for _, d := range a.disks.Dirs() {
		rd := kmsg.NewDescribeLogDirsResponseDir()
		rd.Dir, rd.TotalBytes, rd.UsableBytes = d.Path, d.Total, d.Free
		if d.Err != nil {
			rd.ErrorCode, rd.TotalBytes, rd.UsableBytes = kerr.KafkaStorageError.Code, -1, -1
		} else {
			rd.Topics = logsByTopic(byDir[d.Path])
		}
		code.see(rd.ErrorCode)
		resp.Dirs = append(resp.Dirs, rd)
	}
	r.Answer(wire.Message(resp, int16(code)))
}

// describedLogs tells which logs the request asks for; no list of topics asks for all.
func describedLogs(req *kmsg.DescribeLogDirsRequest) func(topic.Partition) bool {
	if req.Topics == nil {
		return func(topic.Partition) bool { return true }
	}
	wanted := map[topic.Partition]bool{}
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			wanted[topic.Partition{Topic: t.Topic, Partition: p}] = true
		}
	}
	return func(p topic.Partition) bool { return wanted[p] }
}

// describedLog is a log in a directory, or its copy on the way to there (KIP-113).
type describedLog struct {
	name   topic.Partition
	size   int64
	lag    record.Offset // behind the high watermark; of a copy, behind the log
	future bool
}

func logsByTopic(logs []describedLog) []kmsg.DescribeLogDirsResponseDirTopic {
	byTopic := map[string][]kmsg.DescribeLogDirsResponseDirTopicPartition{}
	for _, l := range logs {
		p := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
		p.Partition, p.Size, p.OffsetLag, p.IsFuture = l.name.Partition, l.size, int64(l.lag), l.future
		byTopic[l.name.Topic] = append(byTopic[l.name.Topic], p)
	}
	var out []kmsg.DescribeLogDirsResponseDirTopic
	for _, name := range sortedNames(byTopic) {
		t := kmsg.NewDescribeLogDirsResponseDirTopic()
		t.Topic, t.Partitions = name, byTopic[name]
		slices.SortFunc(t.Partitions, func(x, y kmsg.DescribeLogDirsResponseDirTopicPartition) int {
			return int(x.Partition) - int(y.Partition)
		})
		out = append(out, t)
	}
	return out
}
