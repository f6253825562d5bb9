package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/belfry-mq/belfry/broker/controller"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/peer"
	"github.com/belfry-mq/belfry/broker/quorum"
	"github.com/belfry-mq/belfry/broker/replica"
)

// controllerRoad asks the active controller, in this process if it is this node.
type controllerRoad struct {
	node   metadata.BrokerID
	quorum interface {
		Leading() (bool, <-chan struct{})
		Leader() metadata.BrokerID
	}
	control *controller.Controller
	peers   *peer.Client
	image   func() *metadata.Image
}

var (
	_ road        = (*controllerRoad)(nil)
	_ replica.ISR = (*controllerRoad)(nil)
)

// Controller implements road.
func (c *controllerRoad) Controller() metadata.BrokerID { return c.quorum.Leader() }

// here tells whether this node is the controller, and else which one is.
func (c *controllerRoad) here() (here bool, to metadata.BrokerID, err error) {
	if leads, _ := c.quorum.Leading(); leads {
		return true, c.node, nil
	}
	if to = c.quorum.Leader(); to == metadata.NoBroker || to == c.node {
		return false, to, quorum.ErrNoLeader
	}
	return false, to, nil
}

// Register implements road.
func (c *controllerRoad) Register(ctx context.Context, r controller.Registration) (int64, error) {
	here, to, err := c.here()
	switch {
	case err != nil:
		return 0, err
	case here:
		return c.control.RegisterBroker(ctx, r)
	}
	return c.peers.Register(ctx, to, r)
}

// Heartbeat implements road.
func (c *controllerRoad) Heartbeat(ctx context.Context, h controller.Heartbeat) (controller.Pulse, error) {
	here, to, err := c.here()
	switch {
	case err != nil:
		return controller.Pulse{}, err
	case here:
		return c.control.Heartbeat(ctx, h)
	}
	return c.peers.Heartbeat(ctx, to, h)
}

// ProducerIDs gets a block of producer IDs for this broker, again while there is another
// controller, until ctx ends.
func (c *controllerRoad) ProducerIDs(ctx context.Context) (first int64, n int, err error) {
	for {
		first, n, err = c.producerIDs(ctx)
		var moved *quorum.NotLeaderError
		again := errors.As(err, &moved) || errors.Is(err, quorum.ErrNoLeader) || codeOf(err) == kerr.NotController.Code || errors.Is(err, peer.ErrUnreachable) || errors.Is(err, peer.ErrLost)
		if !again || pause(ctx, retryAfter) != nil {
			return first, n, err
		}
	}
}

func (c *controllerRoad) producerIDs(ctx context.Context) (first int64, n int, err error) {
	here, to, err := c.here()
	switch me := c.image().Broker(c.node); {
	case err != nil:
		return 0, 0, err
	case here:
		return c.control.ProducerIDs(ctx)
	case me == nil:
		return 0, 0, fmt.Errorf("cannot get producer IDs: broker %d is not registered", c.node)
	default:
		return c.peers.ProducerIDs(ctx, to, c.node, me.Epoch)
	}
}

// maxProposals is how many proposals go in one request. Why: a frame is bounded, and all
// partitions of a broker may be concerned at once.
const maxProposals = 4000

// Alter implements replica.ISR.
func (c *controllerRoad) Alter(ctx context.Context, ps []replica.Proposal) (all []replica.Altered, err error) {
	for some := range slices.Chunk(ps, maxProposals) {
		as, err := c.alter(ctx, some)
		if err != nil {
			return nil, err // not known of any, which is right for those that were answered too: the next image tells
		}
		all = append(all, as...)
	}
	return all, nil
}

func (c *controllerRoad) alter(ctx context.Context, ps []replica.Proposal) ([]replica.Altered, error) {
	me := c.image().Broker(c.node)
	if me == nil {
		return nil, fmt.Errorf("cannot propose in-sync sets: broker %d is not registered", c.node)
	}
	changes := make([]controller.ISRChange, len(ps))
	for i, p := range ps {
		changes[i] = controller.ISRChange{Topic: p.Topic, Partition: p.Partition, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch}
		for _, m := range p.ISR {
			changes[i].ISR = append(changes[i].ISR, controller.Member{ID: m.Broker, Epoch: m.BrokerEpoch})
		}
	}
	here, to, err := c.here()
	var done []controller.ISRChanged
	switch {
	case err != nil:
	case here:
		done, err = c.control.AlterISR(ctx, c.node, me.Epoch, changes)
	default:
		done, err = c.peers.AlterISR(ctx, to, c.node, me.Epoch, changes)
	}
	if err != nil {
		return nil, err
	}
	as := make([]replica.Altered, len(done))
	for i, d := range done {
		as[i] = replica.Altered{Err: asProposal(d.Err), PartitionEpoch: d.State.PartitionEpoch, ISR: d.State.ISR}
	}
	return as, nil
}

// asProposal gives a refusal the words that the replicas know.
func asProposal(err error) error {
	switch codeOf(err) {
	case kerr.IneligibleReplica.Code:
		return fmt.Errorf("%w: %w", replica.ErrIneligible, err)
	case kerr.FencedLeaderEpoch.Code, kerr.InvalidUpdateVersion.Code, kerr.NotController.Code, kerr.NewLeaderElected.Code,
		kerr.UnknownTopicID.Code, kerr.UnknownTopicOrPartition.Code:
		return fmt.Errorf("%w: %w", replica.ErrStale, err)
	}
	return err
}
