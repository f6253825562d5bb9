package api

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/wire"
)

// describeLogDirs answers DescribeLogDirs 0–4 (sizes of the file system in 4, KIP-827).
func (a *API) describeLogDirs(r *wire.Request) {
	req := r.Body.(*kmsg.DescribeLogDirsRequest)
	resp := kmsg.NewPtrDescribeLogDirsResponse()
	byDir := map[string][]*storage.Log{}
	for _, l := range a.disks.Logs() {
		if describedLog(req, l) {
			byDir[l.Dir()] = append(byDir[l.Dir()], l)
		}
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

// describedLog tells whether the request asks for the log; no list of topics asks for all.
func describedLog(req *kmsg.DescribeLogDirsRequest, l *storage.Log) bool {
	if req.Topics == nil {
		return true
	}
	p := l.Partition()
	return slices.ContainsFunc(req.Topics, func(t kmsg.DescribeLogDirsRequestTopic) bool {
		return t.Topic == p.Topic && slices.Contains(t.Partitions, p.Partition)
	})
}

func logsByTopic(logs []*storage.Log) []kmsg.DescribeLogDirsResponseDirTopic {
	byTopic := map[string][]kmsg.DescribeLogDirsResponseDirTopicPartition{}
	for _, l := range logs {
		p := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
		p.Partition, p.Size = l.Partition().Partition, l.Size()
		p.OffsetLag = max(0, int64(l.HighWatermark()-l.End()))
		byTopic[l.Partition().Topic] = append(byTopic[l.Partition().Topic], p)
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
