package peer

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
)

// PartitionID names a partition as brokers do among each other.
type PartitionID struct {
	Topic     topic.ID
	Partition int32
}

// FetchPartition is what a follower says of one partition.
type FetchPartition struct {
	PartitionID
	LeaderEpoch record.Epoch  // in which it takes the other one for the leader
	Offset      record.Offset // everything below it has, as durably as the topic asks for
	LastFetched record.Epoch  // of its last record; -1: it has none
	LogStart    record.Offset
	MaxBytes    int
}

// Fetch is a follower's request. Source: Kafka protocol, Fetch 17 (KIP-227 sessions,
// KIP-595 last fetched epoch, KIP-903 broker epoch).
type Fetch struct {
	BrokerEpoch        int64 // of the follower
	Wait               time.Duration
	MinBytes, MaxBytes int
	// Session is 0 and SessionEpoch 0 to begin one; Session and 0 to end one and begin another.
	Session, SessionEpoch int32
	Partitions            []FetchPartition
	Forget                []PartitionID
}

// FetchedPartition is a leader's answer for one partition.
type FetchedPartition struct {
	PartitionID
	Code                    int16 // Kafka's error code; 0: none
	HighWatermark, LogStart record.Offset
	Records                 []byte // whole batches; the last one may be cut off
	Diverged                bool   // then EndEpoch ends at EndOffset in the leader's log
	EndEpoch                record.Epoch
	EndOffset               record.Offset
}

// FetchAnswer is a leader's answer. In a session only what is new is in it.
type FetchAnswer struct {
	Code       int16 // Kafka's error code of the whole; 0: none
	Session    int32 // 0: the leader keeps none
	Partitions []FetchedPartition

	frame  []byte // that the records are parts of
	frames *frames
}

// Release gives the memory of the records back for later answers. It need not be called.
// Requires: nobody looks at the records any more.
func (a *FetchAnswer) Release() {
	if a.frames != nil {
		a.frames.give(a.frame)
	}
	a.frame, a.frames, a.Partitions = nil, nil, nil
}

// fetchVersion is the oldest that can say all that a follower must.
const fetchVersion = 15

// TagFull is a tag of a follower's Fetch: its storage is full, and the value says more. Its
// leaders refuse then what it would have to take.
const TagFull = 10_002

// maxWhyFull bounds the text in bytes.
const maxWhyFull = 500

// Fetch asks a leader for what it has. The records of the answer belong to the caller until it
// releases them.
//
// Blocks: for Wait at the leader, and for the road; see Do, of which ctx should allow both.
// Errors: those of Do.
func (c *Client) Fetch(ctx context.Context, to metadata.BrokerID, lane string, f *Fetch) (*FetchAnswer, error) {
	req := f.request(c.o.Node)
	if c.o.Full != nil {
		if why := c.o.Full(); why != "" {
			req.UnknownTags.Set(TagFull, []byte(why[:min(len(why), maxWhyFull)]))
		}
	}
	resp, frame, err := c.ask(ctx, to, lane, req)
	if err != nil {
		return nil, err
	}
	r := resp.(*kmsg.FetchResponse)
	if r.Version < fetchVersion {
		return nil, fmt.Errorf("cannot fetch from broker %d: %w: it knows Fetch only up to %d", to, ErrVersion, r.Version)
	}
	a := answerOf(r)
	a.frame, a.frames = frame, &c.frames
	return a, nil
}

// request gives the request in Kafka's words.
func (f *Fetch) request(node metadata.BrokerID) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaState.ID, req.ReplicaState.Epoch = int32(node), f.BrokerEpoch
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = int32(f.Wait.Milliseconds()), int32(f.MinBytes), int32(f.MaxBytes)
	req.SessionID, req.SessionEpoch = f.Session, f.SessionEpoch
	at := make(map[topic.ID]int)
	for _, p := range f.Partitions {
		i, ok := at[p.Topic]
		if !ok {
			i, at[p.Topic] = len(req.Topics), len(req.Topics)
			t := kmsg.NewFetchRequestTopic()
			t.TopicID = p.Topic
			req.Topics = append(req.Topics, t)
		}
		q := kmsg.NewFetchRequestTopicPartition()
		q.Partition, q.CurrentLeaderEpoch, q.FetchOffset = p.Partition, int32(p.LeaderEpoch), int64(p.Offset)
		q.LastFetchedEpoch, q.LogStartOffset, q.PartitionMaxBytes = int32(p.LastFetched), int64(p.LogStart), int32(p.MaxBytes)
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, q)
	}
	clear(at)
	for _, p := range f.Forget {
		i, ok := at[p.Topic]
		if !ok {
			i, at[p.Topic] = len(req.ForgottenTopics), len(req.ForgottenTopics)
			t := kmsg.NewFetchRequestForgottenTopic()
			t.TopicID = p.Topic
			req.ForgottenTopics = append(req.ForgottenTopics, t)
		}
		req.ForgottenTopics[i].Partitions = append(req.ForgottenTopics[i].Partitions, p.Partition)
	}
	return req
}

func answerOf(r *kmsg.FetchResponse) *FetchAnswer {
	a := &FetchAnswer{Code: r.ErrorCode, Session: r.SessionID}
	for i := range r.Topics {
		t := &r.Topics[i]
		for j := range t.Partitions {
			p := &t.Partitions[j]
			a.Partitions = append(a.Partitions, FetchedPartition{
				PartitionID: PartitionID{Topic: t.TopicID, Partition: p.Partition},
				Code:        p.ErrorCode, HighWatermark: record.Offset(p.HighWatermark), LogStart: record.Offset(p.LogStartOffset),
				Records:  p.RecordBatches,
				Diverged: p.DivergingEpoch.EndOffset >= 0,
				EndEpoch: record.Epoch(p.DivergingEpoch.Epoch), EndOffset: record.Offset(p.DivergingEpoch.EndOffset),
			})
		}
	}
	return a
}
