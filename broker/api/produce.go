package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/replica"
	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/topic"
	"github.com/belfry-mq/belfry/broker/wire"
)

// minAckTime is how long an acknowledgement is waited for at least. Why: some clients
// send 0, which is enough for a broker that acknowledges from memory, and never for
// one that waits for its disk.
const minAckTime = time.Second

// maxProducePartitions bounds what one request makes us hold for its answer: an
// entry without records has 8 bytes, its answer some 200.
const maxProducePartitions = 100_000

// produce answers Produce 0–13 (topics by ID since 13, KIP-516; transactions in produce_txn.go). All partitions are appended to here, in the order
// of the request, so that a connection's requests reach the logs in order; the
// answer goes out when every partition may be acknowledged.
func (a *API) produce(r *wire.Request) {
	req := r.Body.(*kmsg.ProduceRequest)
	partitions := 0
	for i := range req.Topics {
		partitions += len(req.Topics[i].Partitions)
	}
	if partitions > maxProducePartitions {
		r.Drop(fmt.Errorf("cannot produce to %d partitions in one request, the limit is %d", partitions, maxProducePartitions))
		return
	}
	c := a.produceCall(r, req, partitions)
	c.left.Store(int32(partitions) + 1) // and this dispatch itself
	c.asking = nil
	now := a.now()
	timeout := max(minAckTime, time.Duration(req.TimeoutMillis)*time.Millisecond)
	for i := range c.slots {
		c.partition(&c.slots[i], now, timeout)
	}
	if c.refused {
		a.refused.Add(1)
	}
	if len(c.asking) > 0 {
		c.ask(timeout)
	}
	// Why not those of a transaction: they may wait for its coordinator before they are appended.
	if req.TransactionID == nil && c.left.Load() > 1 {
		r.RecordsDone() // all are in their logs or refused, and the answer waits
	}
	c.release()
}

// partition appends one partition's records and arranges for its acknowledgement.
func (c *produceCall) partition(s *produceSlot, now time.Time, timeout time.Duration) {
	p := s.request
	part, err := c.api.produceTo(s.topic, p.Partition, c.req)
	if part != nil && errors.Is(err, replica.ErrNotLeader) && c.awaitLead(part, now) {
		part, err = c.api.produceTo(s.topic, p.Partition, c.req)
	}
	s.part = part
	if err != nil {
		c.lead(s, err)
		c.fail(s, err)
		return
	}
	counts := part.Stats()
	counts.ProduceRequests.Add(1)
	if reason := c.api.braked(part.Name(), now); reason != "" {
		counts.RejectedBytes.Add(len(p.Records))
		c.refused = true
		c.fail(s, refuse(kerr.KafkaStorageError, reason))
		return
	}
	b, info, err := c.api.admit(part, p.Records, c.req, now)
	if err != nil {
		c.fail(s, err)
		return
	}
	if info.First.Transactional() {
		c.transactional(s, admitted{b, info}, timeout)
		return
	}
	got, err := part.Append(b, c.req.Acks, now)
	c.appended(s, info, got, err, timeout)
}

// handoverTime is how long a request waits, at most and as a whole, for partitions that this
// broker does not lead: it may be about to, see replica.Partition.AwaitLead. Why so short:
// the requests behind it on its connection wait, too.
const handoverTime = 50 * time.Millisecond

// awaitLead waits for this broker's leadership; false: it had no time to. The request began at now.
func (c *produceCall) awaitLead(part *replica.Partition, now time.Time) bool {
	left := handoverTime - c.api.now().Sub(now)
	if left <= 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), left)
	defer cancel()
	part.AwaitLead(ctx)
	return true
}

// appended takes the answer of the log and arranges for the acknowledgement.
func (c *produceCall) appended(s *produceSlot, info record.Info, got storage.Appended, err error, timeout time.Duration) {
	part, answer, counts := s.part, s.answer, s.part.Stats()
	if err != nil {
		answer.LogStartOffset = int64(part.LogStart())
		c.lead(s, err)
		c.fail(s, err)
		return
	}
	if !got.Duplicate {
		counts.BytesIn.Add(len(s.request.Records))
		counts.MessagesIn.Add(info.Records)
	}
	answer.BaseOffset, answer.LogStartOffset, answer.LogAppendTime = int64(got.First), int64(got.Start), got.AppendTime
	if c.req.Acks == 0 {
		c.release()
		return
	}
	part.Await(&s.wait, got.Last+1, c.req.Acks, timeout, s)
}

// Acked ends the wait of one partition.
func (s *produceSlot) Acked(err error) {
	if err != nil {
		s.answer.BaseOffset, s.answer.LogAppendTime = -1, -1
		s.call.lead(s, err)
		s.call.fail(s, err)
		return
	}
	s.call.release()
}

// fail puts the error into a partition's answer and counts the partition as done.
func (c *produceCall) fail(s *produceSlot, err error) {
	s.answer.ErrorCode, s.answer.ErrorMessage = c.api.answer("Produce", err)
	var some *record.RecordError
	if errors.As(err, &some) {
		s.answer.ErrorRecords = failedRecords(some)
	}
	if s.part != nil {
		s.part.Stats().FailedProduce.Add(1)
	}
	c.release()
}

// lead says who leads a partition that this broker does not (KIP-951).
func (c *produceCall) lead(s *produceSlot, err error) {
	if codeOf(err) == kerr.NotLeaderForPartition.Code {
		leader, epoch := c.api.leader(topic.Partition{Topic: s.topic.Topic, Partition: s.answer.Partition}, s.part)
		s.answer.CurrentLeader.LeaderID, s.answer.CurrentLeader.LeaderEpoch = int32(leader), int32(epoch)
	}
}

// release is called once for each partition and once for the dispatch.
func (c *produceCall) release() {
	if c.left.Add(-1) > 0 {
		return
	}
	var code first
	for i := range c.resp.Topics {
		for j := range c.resp.Topics[i].Partitions {
			code.see(c.resp.Topics[i].Partitions[j].ErrorCode)
		}
	}
	switch {
	case c.req.Acks != 0:
		c.leaders()
		c.encode(code != 0)
		c.r.Answer(wire.Pieces(c.pieces[:], int16(code)))
	case code == 0:
		r := c.r
		c.recycle()
		r.AnswerNothing()
	default:
		// A client that wants no answer learns of an error only by losing the connection; it then asks for metadata.
		c.r.Drop(fmt.Errorf("cannot produce with acks=0: %v", kerr.ErrorForCode(int16(code))))
	}
}

// leaders tells the addresses of the leaders that the slots name (KIP-951).
func (c *produceCall) leaders() {
	if c.req.Version < 10 {
		return
	}
	seen := map[int32]bool{}
	for _, t := range c.resp.Topics {
		for _, p := range t.Partitions {
			id := p.CurrentLeader.LeaderID
			if id < 0 || seen[id] || p.ErrorCode != kerr.NotLeaderForPartition.Code {
				continue
			}
			seen[id] = true
			if b := c.api.image().Broker(metadata.BrokerID(id)); b != nil {
				if e, ok := endpoint(b, c.r); ok {
					rb := kmsg.NewProduceResponseBroker()
					rb.NodeID, rb.Host, rb.Port, rb.Rack = id, e.Host, e.Port, text(b.Rack)
					c.resp.Brokers = append(c.resp.Brokers, rb)
				}
			}
		}
	}
}

// produceTo finds the partition and refuses what no batch can mend.
func (a *API) produceTo(t *kmsg.ProduceRequestTopic, partition int32, req *kmsg.ProduceRequest) (*replica.Partition, error) {
	name := t.Topic
	if req.Acks < -1 || req.Acks > 1 {
		return nil, refuse(kerr.InvalidRequiredAcks, fmt.Sprintf("acks is %d; allowed are -1 (all in-sync replicas), 0 (no answer) and 1 (the leader)", req.Acks))
	}
	if name == "" && req.Version >= 13 {
		return nil, refuse(kerr.UnknownTopicID, fmt.Sprintf("there is no topic with ID %v", topic.ID(t.TopicID)))
	}
	if topic.IsInternal(name) {
		return nil, refuse(kerr.InvalidTopicException, fmt.Sprintf("topic %q is the broker's own: clients cannot produce to it", name))
	}
	part, err := a.partition(topic.Partition{Topic: name, Partition: partition})
	if err == nil && req.Version >= 13 && part.TopicID() != t.TopicID {
		return nil, refuse(kerr.UnknownTopicID, fmt.Sprintf("topic %q was made again under another ID", name))
	}
	if err == nil {
		err = part.CheckLeader(-1)
	}
	if err != nil {
		return part, a.explain(name, partition, err)
	}
	return part, nil
}

// explain says why a partition cannot be used, in the words of whoever asked for it.
func (a *API) explain(name string, partition int32, err error) error {
	if errors.Is(err, replica.ErrUnknownPartition) {
		if t := a.image().Topic(name); t != nil {
			return refuse(kerr.UnknownTopicOrPartition, fmt.Sprintf("topic %q has the partitions 0 to %d, there is no partition %d", name, len(t.Partitions)-1, partition))
		}
		return refuse(kerr.UnknownTopicOrPartition, fmt.Sprintf("there is no topic %q: create it, or set auto.create.topics.enable", name))
	}
	return fmt.Errorf("cannot produce to partition %d of topic %q: %w", partition, name, err)
}

// admit is the door for a partition's records: what comes back is one or more
// checked batches of magic 2, ready to be appended.
func (a *API) admit(part *replica.Partition, b []byte, req *kmsg.ProduceRequest, now time.Time) ([]byte, record.Info, error) {
	none := record.Info{}
	if len(b) == 0 {
		return nil, none, refuse(kerr.InvalidRecord, "the partition has no records in the request")
	}
	a.heavy <- struct{}{}
	defer func() { <-a.heavy }()
	b, err := modern(b, req.Version)
	if err != nil {
		return nil, none, err
	}
	rules := part.Rules()
	if err := checkSizes(b, rules.MaxBytes); err != nil {
		return nil, none, err
	}
	info, err := record.Check(b, record.Limits{
		NoNullKeys:    rules.Compact,
		NoZstd:        req.Version < 7,
		LogAppendTime: rules.LogAppendTime,
		Now:           now.UnixMilli(),
		MaxBefore:     max(1, rules.MaxBefore),
		MaxAfter:      max(1, rules.MaxAfter), // 0 would be: no limit
	})
	if err != nil {
		return nil, none, err
	}
	if info.Batches > 1 && req.Version >= 3 {
		return nil, none, refuse(kerr.InvalidRecord, fmt.Sprintf("%d batches for one partition; since version 3 a produce request carries one", info.Batches))
	}
	if b, err = recode(b, rules.Compression); err != nil {
		return nil, none, err
	}
	return b, info, nil
}

// failedRecords names the records that a whole batch was refused for (KIP-467).
func failedRecords(some *record.RecordError) []kmsg.ProduceResponseTopicPartitionErrorRecord {
	out := make([]kmsg.ProduceResponseTopicPartitionErrorRecord, len(some.Records))
	for i, r := range some.Records {
		out[i].RelativeOffset, out[i].ErrorMessage = r.Index, text(r.Err.Error())
	}
	return out
}
