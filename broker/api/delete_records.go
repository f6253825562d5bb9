package api

import (
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/replica"
	"github.com/belfry-mq/belfry/broker/topic"
	"github.com/belfry-mq/belfry/broker/wire"
)

// deleteRecords answers DeleteRecords 0–2 (KIP-107): moves log starts forward and
// says where they are, when all partitions have done it or the request's time to wait is over.
func (a *API) deleteRecords(r *wire.Request) {
	req := r.Body.(*kmsg.DeleteRecordsRequest)
	c := deleteRecordsCall{api: a, r: r, resp: kmsg.NewPtrDeleteRecordsResponse(), left: 1}
	for _, t := range req.Topics {
		rt := kmsg.NewDeleteRecordsResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewDeleteRecordsResponseTopicPartition()
			// Until it has answered, a partition counts as timed out.
			rp.Partition, rp.LowWatermark, rp.ErrorCode = p.Partition, -1, codeOf(replica.ErrTimeout)
			rt.Partitions = append(rt.Partitions, rp)
			c.left++
		}
		c.resp.Topics = append(c.resp.Topics, rt)
	}
	for i, t := range req.Topics {
		for j, p := range t.Partitions {
			done := func(low record.Offset, err error) { c.done(i, j, low, err) }
			part, err := a.partition(topic.Partition{Topic: t.Topic, Partition: p.Partition})
			if err == nil {
				err = part.CheckLeader(-1)
			}
			if err != nil {
				done(-1, err)
				continue
			}
			part.DeleteBefore(record.Offset(p.Offset), done)
		}
	}
	// Why only now: the request's time is for waiting on other replicas. What this one has done is told, whatever time was given.
	c.stop = time.AfterFunc(time.Duration(max(0, req.TimeoutMillis))*time.Millisecond, c.timeUp).Stop
	c.release()
}

// deleteRecordsCall collects the partitions' answers.
type deleteRecordsCall struct {
	api  *API
	r    *wire.Request
	stop func() bool
	mu   sync.Mutex
	resp *kmsg.DeleteRecordsResponse
	left int // partitions that have not answered, and 1 while the request is handed out
	sent bool
}

func (c *deleteRecordsCall) done(i, j int, low record.Offset, err error) {
	code, _ := c.api.answer("DeleteRecords", err)
	c.mu.Lock()
	if !c.sent {
		p := &c.resp.Topics[i].Partitions[j]
		p.LowWatermark, p.ErrorCode = int64(low), code
	}
	c.mu.Unlock()
	c.release()
}

func (c *deleteRecordsCall) release() {
	c.mu.Lock()
	c.left--
	last := c.left == 0 && !c.sent
	c.sent = c.sent || last
	c.mu.Unlock()
	if last {
		c.stop()
		c.send()
	}
}

func (c *deleteRecordsCall) timeUp() {
	c.mu.Lock()
	late := !c.sent
	c.sent = true
	c.mu.Unlock()
	if late {
		c.send()
	}
}

func (c *deleteRecordsCall) send() {
	var code first
	for _, t := range c.resp.Topics {
		for _, p := range t.Partitions {
			code.see(p.ErrorCode)
		}
	}
	c.r.Answer(wire.Message(c.resp, int16(code)))
}
