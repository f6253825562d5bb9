package api

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/replica"
	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/topic"
	"github.com/belfry-mq/belfry/broker/wire"
)

// alterReplicaLogDirs answers AlterReplicaLogDirs 0–2 (KIP-113): moves partitions between this
// node's log directories. The answer says that a move began, DescribeLogDirs how far it is.
func (a *API) alterReplicaLogDirs(r *wire.Request) {
	req := r.Body.(*kmsg.AlterReplicaLogDirsRequest)
	resp := kmsg.NewPtrAlterReplicaLogDirsResponse()
	wanted := map[topic.Partition]string{}
	var names []topic.Partition
	for _, d := range req.Dirs {
		for _, t := range d.Topics {
			for _, n := range t.Partitions {
				name := topic.Partition{Topic: t.Topic, Partition: n}
				if _, twice := wanted[name]; !twice {
					names = append(names, name)
				}
				wanted[name] = d.Dir // as in Kafka, the last directory counts
			}
		}
	}
	var code first
	byTopic := map[string]int{}
	for _, name := range names {
		i, seen := byTopic[name.Topic]
		if !seen {
			i = len(resp.Topics)
			byTopic[name.Topic] = i
			rt := kmsg.NewAlterReplicaLogDirsResponseTopic()
			rt.Topic = name.Topic
			resp.Topics = append(resp.Topics, rt)
		}
		rp := kmsg.NewAlterReplicaLogDirsResponseTopicPartition()
		rp.Partition = name.Partition
		rp.ErrorCode, _ = a.answer("AlterReplicaLogDirs", a.moveTo(wanted[name], name))
		code.see(rp.ErrorCode)
		resp.Topics[i].Partitions = append(resp.Topics[i].Partitions, rp)
	}
	r.Answer(wire.Message(resp, int16(code)))
}

// moveTo has one partition's log live in a directory. One that is not here yet is made
// there when it comes.
func (a *API) moveTo(dir string, name topic.Partition) error {
	_, err := a.replicas.Partition(name)
	if err != nil && !errors.Is(err, replica.ErrUnknownPartition) {
		return err
	}
	if topic.CheckName(name.Topic) != nil || name.Partition < 0 {
		return refuse(kerr.UnknownTopicOrPartition, "there is no such partition")
	}
	err = a.disks.Move(name, dir)
	if !errors.Is(err, storage.ErrNoLog) {
		return err
	}
	if t := a.image().Topic(name.Topic); t == nil || int(name.Partition) >= len(t.Partitions) {
		return refuse(kerr.UnknownTopicOrPartition, "there is no such partition; it will be made in that directory")
	}
	return err
}
