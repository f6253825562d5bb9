package peer

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/controller"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
)

// Lanes to the controller. Why several: a heartbeat must not wait for the commit of a
// leader's proposal.
const (
	laneLife      = "life"
	laneISR       = "isr"
	laneProducers = "producers"
)

// Register asks a controller to register a broker; see controller.RegisterBroker.
//
// Errors: as Do; *controller.Refusal.
func (c *Client) Register(ctx context.Context, to metadata.BrokerID, r controller.Registration) (epoch int64, err error) {
	req := kmsg.NewPtrBrokerRegistrationRequest()
	req.BrokerID, req.ClusterID, req.IncarnationID = int32(r.Broker.ID), r.ClusterID, r.Broker.Incarnation
	req.PreviousBrokerEpoch = r.Previous
	if r.Broker.Rack != "" {
		req.Rack = &r.Broker.Rack
	}
	for _, e := range r.Broker.Endpoints {
		l := kmsg.NewBrokerRegistrationRequestListener()
		l.Name, l.Host, l.Port, l.SecurityProtocol = e.Listener, e.Host, uint16(e.Port), e.Security
		req.Listeners = append(req.Listeners, l)
	}
	got, err := c.Do(ctx, to, laneLife, req)
	if err != nil {
		return 0, err
	}
	resp := got.(*kmsg.BrokerRegistrationResponse)
	return resp.BrokerEpoch, refused(to, resp.ErrorCode)
}

// Heartbeat tells a controller that a broker lives; see controller.Heartbeat.
//
// Errors: as Do; *controller.Refusal.
func (c *Client) Heartbeat(ctx context.Context, to metadata.BrokerID, h controller.Heartbeat) (controller.Pulse, error) {
	req := kmsg.NewPtrBrokerHeartbeatRequest()
	req.BrokerID, req.BrokerEpoch, req.CurrentMetadataOffset = int32(h.ID), h.Epoch, int64(h.Seen)
	req.WantFence, req.WantShutdown = h.Fence, h.Shutdown
	if len(h.Offline) > 0 {
		req.UnknownTags.Set(TagOffline, AppendOffline(nil, h.Offline))
	}
	if len(h.Damaged) > 0 {
		req.UnknownTags.Set(TagDamaged, AppendDamaged(nil, h.Damaged))
	}
	got, err := c.Do(ctx, to, laneLife, req)
	if err != nil {
		return controller.Pulse{}, err
	}
	resp := got.(*kmsg.BrokerHeartbeatResponse)
	return controller.Pulse{CaughtUp: resp.IsCaughtUp, Fenced: resp.IsFenced, MayStop: resp.ShouldShutdown}, refused(to, resp.ErrorCode)
}

// refused gives a controller's refusal as an error.
func refused(by metadata.BrokerID, code int16) error {
	err := kerr.ErrorForCode(code)
	if err == nil {
		return nil
	}
	return &controller.Refusal{Code: code, Message: fmt.Sprintf("the controller, broker %d, says %v", by, err)}
}

// TagOffline is a tag of BrokerHeartbeat: the broker's replicas on failed log
// directories, each a topic ID and a partition number of 4 bytes. Kafka tells
// directories instead, which takes one metadata record more for each replica there is.
const TagOffline = 10_000

const offlineSize = len(topic.ID{}) + 4

// AppendOffline writes what ReadOffline reads.
func AppendOffline(b []byte, rs []controller.Replica) []byte {
	for _, r := range rs {
		b = append(b, r.Topic[:]...)
		b = binary.BigEndian.AppendUint32(b, uint32(r.Number))
	}
	return b
}

// ReadOffline reads the tag TagOffline; what is cut short at its end is left out.
func ReadOffline(b []byte) (rs []controller.Replica) {
	for ; len(b) >= offlineSize; b = b[offlineSize:] {
		rs = append(rs, controller.Replica{Topic: topic.ID(b[:len(topic.ID{})]), Number: int32(binary.BigEndian.Uint32(b[len(topic.ID{}):]))})
	}
	return rs
}

// TagDamaged is a tag of BrokerHeartbeat: the broker's damaged replicas, each a topic ID, a
// partition number and a leader epoch of 4 bytes.
const TagDamaged = 10_001

const damagedSize = offlineSize + 4

// AppendDamaged writes what ReadDamaged reads.
func AppendDamaged(b []byte, rs []controller.DamagedReplica) []byte {
	for _, r := range rs {
		b = AppendOffline(b, []controller.Replica{r.Replica})
		b = binary.BigEndian.AppendUint32(b, uint32(r.Epoch))
	}
	return b
}

// ReadDamaged reads the tag TagDamaged; what is cut short at its end is left out.
func ReadDamaged(b []byte) (rs []controller.DamagedReplica) {
	for ; len(b) >= damagedSize; b = b[damagedSize:] {
		rs = append(rs, controller.DamagedReplica{
			Replica: ReadOffline(b[:offlineSize])[0], Epoch: record.Epoch(binary.BigEndian.Uint32(b[offlineSize:])),
		})
	}
	return rs
}

// AlterISR proposes other in-sync sets to a controller for partitions that broker me
// leads; see controller.AlterISR.
//
// Errors: as Do; *controller.Refusal of all; an answer that cannot be read.
func (c *Client) AlterISR(ctx context.Context, to, me metadata.BrokerID, epoch int64, changes []controller.ISRChange) ([]controller.ISRChanged, error) {
	req := kmsg.NewPtrAlterPartitionRequest()
	req.BrokerID, req.BrokerEpoch = int32(me), epoch
	for _, p := range changes {
		n := len(req.Topics)
		if n == 0 || req.Topics[n-1].TopicID != p.Topic {
			t := kmsg.NewAlterPartitionRequestTopic()
			t.TopicID = p.Topic
			req.Topics = append(req.Topics, t)
			n++
		}
		rp := kmsg.NewAlterPartitionRequestTopicPartition()
		rp.Partition, rp.LeaderEpoch, rp.PartitionEpoch = p.Partition, int32(p.LeaderEpoch), p.PartitionEpoch
		for _, m := range p.ISR {
			member := kmsg.NewAlterPartitionRequestTopicPartitionNewEpochISR()
			member.BrokerID, member.BrokerEpoch = int32(m.ID), m.Epoch
			rp.NewEpochISR = append(rp.NewEpochISR, member)
		}
		req.Topics[n-1].Partitions = append(req.Topics[n-1].Partitions, rp)
	}
	got, err := c.Do(ctx, to, laneISR, req)
	if err != nil {
		return nil, err
	}
	resp := got.(*kmsg.AlterPartitionResponse)
	if err := refused(to, resp.ErrorCode); err != nil {
		return nil, err
	}
	return changed(to, changes, resp)
}

// ProducerIDs asks a controller for a block of producer IDs for broker me; see
// controller.ProducerIDs.
//
// Errors: as Do; *controller.Refusal.
func (c *Client) ProducerIDs(ctx context.Context, to, me metadata.BrokerID, epoch int64) (first int64, n int, err error) {
	req := kmsg.NewPtrAllocateProducerIDsRequest()
	req.BrokerID, req.BrokerEpoch = int32(me), epoch
	got, err := c.Do(ctx, to, laneProducers, req)
	if err != nil {
		return 0, 0, err
	}
	resp := got.(*kmsg.AllocateProducerIDsResponse)
	return resp.ProducerIDStart, int(resp.ProducerIDLen), refused(to, resp.ErrorCode)
}

// changed reads the answers, which stand in the order of the proposals.
func changed(by metadata.BrokerID, changes []controller.ISRChange, resp *kmsg.AlterPartitionResponse) ([]controller.ISRChanged, error) {
	var done []controller.ISRChanged
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if i := len(done); i >= len(changes) || changes[i].Topic != t.TopidID || changes[i].Partition != p.Partition {
				return nil, fmt.Errorf("cannot read the answer to AlterPartition of broker %d: it answers what was not asked", by)
			}
			state := metadata.Partition{Leader: metadata.BrokerID(p.LeaderID), LeaderEpoch: record.Epoch(p.LeaderEpoch), PartitionEpoch: p.PartitionEpoch}
			for _, id := range p.ISR {
				state.ISR = append(state.ISR, metadata.BrokerID(id))
			}
			done = append(done, controller.ISRChanged{State: state, Err: refused(by, p.ErrorCode)})
		}
	}
	if len(done) != len(changes) {
		return nil, fmt.Errorf("cannot read the answer to AlterPartition of broker %d: it has %d of %d partitions", by, len(done), len(changes))
	}
	return done, nil
}
