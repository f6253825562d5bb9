package broker

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belfry-mq/belfry/broker/group"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/peer"
	"github.com/belfry-mq/belfry/broker/replica"
	"github.com/belfry-mq/belfry/broker/txn"
)

// publisher tells the rooms of each new image, one after the other, in commit order:
//
//  1. settings, because the others ask for them while they follow;
//  2. replica.Set makes logs and leaderships;
//  3. group.Coordinator loads and drops groups with the partitions that are led now;
//  4. txn.Coordinator does the same with transactional IDs;
//  5. the client of other brokers lets go of those that moved;
//  6. last the image becomes the one that the API answers from (Image), so that nobody is
//     told of a partition that is not there yet.
//
// Invariant: no room ever sees an image of a replay half done. Until start is called
// nothing is passed on; the first image is the one this node has caught up with.
type publisher struct {
	settings *settings
	set      *replica.Set
	groups   *group.Coordinator
	txns     *txn.Coordinator
	peers    *peer.Client
	log      *slog.Logger

	current atomic.Pointer[metadata.Image] // that was passed on, or the empty one

	mu struct {
		sync.Mutex
		failed  string // why some partitions could not follow; "" if all did
		started bool
		newest  *metadata.Image // that came in
		last    *metadata.Image // that was passed on
		changed chan struct{}   // closed and replaced when one of them changes
	}
}

func newPublisher() *publisher {
	p := &publisher{}
	p.current.Store(metadata.Empty())
	p.mu.newest, p.mu.changed = metadata.Empty(), make(chan struct{})
	return p
}

// Image is the newest image that every room has followed; the empty one before start.
func (p *publisher) Image() *metadata.Image { return p.current.Load() }

// passes waits until every room has followed an image for which holds says so.
func (p *publisher) passes(ctx context.Context, holds func(*metadata.Image) bool) error {
	return p.wait(ctx, func() bool { return holds(p.current.Load()) })
}

// arrives waits for such an image to come in, whether it is passed on already or not.
func (p *publisher) arrives(ctx context.Context, holds func(*metadata.Image) bool) error {
	return p.wait(ctx, func() bool { return holds(p.mu.newest) })
}

// Seen waits until every room has followed the image of an index, or a later one.
func (p *publisher) Seen(ctx context.Context, index uint64) error {
	return p.passes(ctx, func(img *metadata.Image) bool { return img.Index() >= index })
}

func (p *publisher) wait(ctx context.Context, holdsLocked func() bool) error {
	for {
		p.mu.Lock()
		holds, changed := holdsLocked(), p.mu.changed
		p.mu.Unlock()
		if holds {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// changed is closed when the next image comes in or is passed on.
func (p *publisher) changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.changed
}

// image takes a new image; quorum calls it.
func (p *publisher) image(_, img *metadata.Image) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.newest = img
	if p.mu.started {
		p.passLocked()
	}
	p.tellLocked()
}

func (p *publisher) tellLocked() {
	close(p.mu.changed)
	p.mu.changed = make(chan struct{})
}

// start passes on the newest image and all after it.
func (p *publisher) start(current *metadata.Image) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.started = true
	if p.mu.newest.Index() < current.Index() {
		p.mu.newest = current
	}
	p.passLocked()
	p.tellLocked()
}

func (p *publisher) passLocked() {
	old, img := p.mu.last, p.mu.newest
	p.settings.apply(img)
	p.replicasLocked(old, img)
	p.groups.Apply(old, img)
	p.txns.Apply(old, img)
	p.peers.Apply(old, img)
	p.mu.last = img
	p.current.Store(img)
}

func (p *publisher) replicasLocked(old, img *metadata.Image) {
	failed := ""
	if err := p.set.Apply(old, img); err != nil {
		failed = err.Error()
	}
	if failed != "" && failed != p.mu.failed {
		p.log.Error("some partitions could not follow the metadata; they are tried again", "index", img.Index(), "every", retryEvery, "err", failed)
	}
	p.mu.failed = failed
}

// retryEvery is how often partitions that could not follow are tried again: a disk
// that was full when their topic was made may have room now.
const retryEvery = 3 * time.Second

// run tries them until ctx ends.
func (p *publisher) run(ctx context.Context) error {
	tick := time.NewTicker(retryEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			p.retry()
		}
	}
}

func (p *publisher) retry() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.failed != "" {
		p.replicasLocked(p.mu.last, p.mu.last)
		p.groups.Apply(p.mu.last, p.mu.last)
		p.txns.Apply(p.mu.last, p.mu.last)
	}
}
