package broker

import (
	"log/slog"
	"sync"

	"github.com/belfry-mq/belfry/broker/group"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/replica"
)

// publisher tells the rooms of each new image, one after the other, in commit order:
//
//  1. settings, because the others ask for them while they follow;
//  2. replica.Set makes logs and leaderships;
//  3. group.Coordinator loads and drops groups with the partitions that are led now;
//  4. last, and only when this returns, the image becomes the one that the API answers
//     from (quorum.Image), so that nobody is told of a partition that is not there yet.
//
// Invariant: no room ever sees an image of a replay half done. Until start is called
// nothing is passed on; the first image is the one this node has caught up with.
type publisher struct {
	settings *settings
	set      *replica.Set
	groups   *group.Coordinator
	log      *slog.Logger

	mu struct {
		sync.Mutex
		started bool
		newest  *metadata.Image // that came in
		last    *metadata.Image // that was passed on
	}
}

// image takes a new image; quorum calls it.
func (p *publisher) image(_, img *metadata.Image) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.newest = img
	if p.mu.started {
		p.passLocked()
	}
}

// start passes on the newest image and all after it.
func (p *publisher) start(current *metadata.Image) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.started = true
	if p.mu.newest == nil || p.mu.newest.Index() < current.Index() {
		p.mu.newest = current
	}
	p.passLocked()
}

func (p *publisher) passLocked() {
	old, img := p.mu.last, p.mu.newest
	p.settings.apply(img)
	if err := p.set.Apply(old, img); err != nil {
		p.log.Error("some partitions could not follow the metadata; they are tried again with the next change", "index", img.Index(), "err", err)
	}
	p.groups.Apply(old, img)
	p.mu.last = img
}
