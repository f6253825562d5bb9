package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/peer"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/stats"
	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/topic"
)

// Options of a Set.
type Options struct {
	Node   metadata.BrokerID
	Store  *storage.Store
	Stats  *stats.Broker
	Logger *slog.Logger
	Now    func() time.Time
	// Settings gives a topic's effective settings (dynamic layers included).
	Settings func(img *metadata.Image, topicName string) *config.Values
	// Peers are the other brokers. Nil: nothing is followed.
	Peers Peers
	// ISR is the controller. Nil: in-sync sets are changed by the metadata alone.
	ISR         ISR
	Replication Replication // zero fields: DefaultReplication's
	// Hurry is told that Damaged or Offline has news for the controller. It must not block.
	// Nil: the next heartbeat tells.
	Hurry func()
}

// logStore is what a set needs of the store.
type logStore interface {
	has(p topic.Partition, id topic.ID) bool
	create(p topic.Partition, id topic.ID, c storage.LogConfig) (localLog, error)
	remove(p topic.Partition, id topic.ID) error
	logs() []held
	failedDirs() []string
	setAside(p topic.Partition, id topic.ID) (kept string, err error)
	asides(p topic.Partition, id topic.ID, since time.Time) (n int, last time.Time)
}

// counters is what a set needs of the broker's numbers.
type counters interface {
	Topic(name string) *stats.Topic
	DropTopic(name string)
}

// Set is every partition this broker holds. Safe for concurrent use, Apply excepted.
type Set struct {
	o         Options
	store     logStore
	counters  counters
	deadlines *deadlines
	cluster   *cluster
	alterer   *alterer // nil without Options.ISR
	fetchers  fetchers
	flaws     flaws

	// partitions is a map that is never changed: Apply puts a new one in its place.
	partitions atomic.Pointer[map[topic.Partition]*entry]
	resolved   map[string]resolved // settings by topic; Apply's alone
	applied    bool                // some image was; Apply's alone

	kick chan struct{} // capacity 1: there is something in failed
	mu   struct {
		sync.Mutex
		failed  []string // log directories, one entry each
		damaged map[topic.Partition]*damaged
	}
}

// entry is a partition, or why this broker cannot serve it.
type entry struct {
	id        topic.ID
	partition *Partition // nil with err
	err       error
	lost      bool         // its log lies in a directory that failed before the start: never made anew
	epoch     record.Epoch // of a log that was found damaged when it was opened: the leader epoch of then; else -1
}

// New wires a set without any partition; Apply fills it.
func New(o Options) *Set { return newSet(o, storeLogs{o.Store}, o.Stats) }

func newSet(o Options, store logStore, c counters) *Set {
	o.Replication = o.Replication.complete()
	s := &Set{
		o: o, store: store, counters: c,
		deadlines: newDeadlines(o.Now), cluster: newCluster(o.Node, o.Now()), kick: make(chan struct{}, 1), flaws: planted(),
	}
	if o.ISR != nil {
		s.alterer = newAlterer(o.ISR, o.Now)
	}
	s.mu.damaged = make(map[topic.Partition]*damaged)
	s.fetchers.s = s
	s.fetchers.mu.list = make(map[fetcherKey]*fetcher)
	s.publish(map[topic.Partition]*entry{})
	return s
}

// Run ends waits whose time is up, takes failed directories out of service, follows leaders
// and keeps in-sync sets small enough, until ctx ends; then everybody who still waits is
// told that this broker does not lead any more.
func (s *Set) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { s.deadlines.run(ctx) })
	wg.Go(func() { s.fetchers.run(ctx) })
	if s.alterer != nil {
		wg.Go(func() { s.alterer.run(ctx) })
	}
	tick := time.NewTicker(max(time.Millisecond, s.o.Replication.LagTime/4))
	defer tick.Stop()
	look := time.NewTicker(statePeriod)
	defer look.Stop()
	for ctx.Err() == nil {
		s.takeOffline()
		s.lookForDamage()
		select {
		case <-ctx.Done():
		case <-s.kick:
		case <-tick.C:
			s.shrink()
		case <-look.C:
			s.o.Stats.Replicated(s.state())
		}
	}
	wg.Wait()
	for _, p := range s.All() {
		p.end(ErrNotLeader)
	}
	return nil
}

// DirFailed takes the partitions of a failed log directory out of service (R19): those who
// wait, and everybody after them, are told storage.ErrOffline. It is made for
// storage.Options.DirFailed: it never blocks and may be called under any lock; Run does
// the work.
func (s *Set) DirFailed(dir string, _ error) {
	s.mu.Lock()
	s.mu.failed = append(s.mu.failed, dir)
	s.mu.Unlock()
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// Offline gives the partitions that are here but out of service because their log
// directories failed.
func (s *Set) Offline() (ps []*Partition) {
	for _, p := range s.All() {
		if errors.Is(p.ended(), storage.ErrOffline) {
			ps = append(ps, p)
		}
	}
	return ps
}

func (s *Set) takeOffline() {
	s.mu.Lock()
	failed := s.mu.failed
	s.mu.failed = nil
	s.mu.Unlock()
	for _, dir := range failed {
		n := 0
		for _, p := range s.All() {
			if p.log.Dir() == dir && p.ended() == nil {
				p.end(storage.ErrOffline)
				n++
			}
		}
		if n == 0 {
			continue
		}
		s.o.Logger.Error("partitions are offline with their log directory", "dir", dir, "partitions", n)
	}
}

// Partition finds a led or followed partition.
//
// Errors: ErrUnknownPartition; storage.ErrOffline when its log directory failed or its log
// cannot be opened.
func (s *Set) Partition(p topic.Partition) (*Partition, error) {
	e := (*s.partitions.Load())[p]
	if e == nil {
		return nil, ErrUnknownPartition
	}
	if e.err != nil {
		return nil, e.err
	}
	if err := e.partition.ended(); err != nil {
		return nil, err
	}
	return e.partition, nil
}

// All gives every partition that has a log, in no order; offline ones are among them.
func (s *Set) All() []*Partition {
	entries := *s.partitions.Load()
	all := make([]*Partition, 0, len(entries))
	for _, e := range entries {
		if e.partition != nil {
			all = append(all, e.partition)
		}
	}
	return all
}

// Apply makes logs, leaderships and settings follow the new image (materialised state, not
// deltas: R11). old is the image applied before, nil or the empty one the first time. Called
// in commit order by one goroutine.
//
// Requires: the first image is one that this broker has caught up with. An older one, of a
// replay half done, may name topics of before under names of now, and their logs would give
// way to each other.
// Errors: what went wrong with single partitions, joined; all others are applied, and those
// are tried again with the next image, or when Apply comes again with the same.
// Blocks: for the files that it makes.
func (s *Set) Apply(old, img *metadata.Image) error {
	first := !s.applied
	s.applied = true
	s.cluster.image.Store(img)
	return s.apply(s.wishes(old, img), first)
}

// shrink looks for followers that are behind for too long (R12: not while this broker may
// be fenced itself).
func (s *Set) shrink() {
	if s.alterer == nil || s.cluster.isolated(s.o.Now) {
		return
	}
	now := s.o.Now()
	for _, p := range s.All() {
		p.shrink(now, s.o.Replication.LagTime)
	}
}

// assign gives what this broker follows to the fetchers.
func (s *Set) assign(wishes map[topic.Partition]wish) {
	if s.o.Peers == nil {
		return
	}
	all := make(map[fetcherKey]map[peer.PartitionID]assignment)
	for name, e := range *s.partitions.Load() {
		w, ok := wishes[name]
		if !ok || e.partition == nil || e.partition.ended() != nil {
			continue
		}
		leader, epoch := e.partition.Leader()
		if leader == s.o.Node || leader == metadata.NoBroker {
			continue
		}
		// Why by the topic too: the partitions of a topic that spread over the fetchers of one
		// number each would all be number 0.
		key := fetcherKey{leader, (int(w.id[0]) + int(name.Partition)) % s.o.Replication.Fetchers}
		if all[key] == nil {
			all[key] = make(map[peer.PartitionID]assignment)
		}
		all[key][peer.PartitionID{Topic: w.id, Partition: name.Partition}] = assignment{e.partition, epoch}
	}
	s.fetchers.assign(all)
}

// wish is one partition that the metadata place on this broker.
type wish struct {
	id    topic.ID
	state metadata.Partition
	set   *settings
}

// resolved is a topic with the settings that were read for it.
type resolved struct {
	topic *metadata.Topic
	set   *settings
}

// wishes reads out of an image what this broker should hold. Settings are resolved anew
// only where a layer of them changed.
func (s *Set) wishes(old, img *metadata.Image) map[topic.Partition]wish {
	same := func(r metadata.Resource) bool {
		return old != nil && maps.Equal(old.Config(r), img.Config(r))
	}
	broker := same(metadata.Resource{Kind: resourceBroker}) &&
		same(metadata.Resource{Kind: resourceBroker, Name: strconv.Itoa(int(s.o.Node))})

	out := make(map[topic.Partition]wish)
	next := make(map[string]resolved)
	for _, t := range img.Topics() {
		r := s.resolved[t.Name]
		if !broker || r.topic != t || !same(metadata.Resource{Kind: resourceTopic, Name: t.Name}) {
			r = resolved{topic: t}
		}
		for n, part := range t.Partitions {
			if !slices.Contains(part.Replicas, s.o.Node) {
				continue
			}
			if r.set == nil {
				r.set = readSettings(s.o.Settings(img, t.Name))
			}
			name := topic.Partition{Topic: t.Name, Partition: int32(n)}
			out[name] = wish{id: t.ID, state: part, set: r.set}
		}
		if r.set != nil {
			next[t.Name] = r
		}
	}
	s.resolved = next
	return out
}

// Kinds of metadata.Resource. Source: Kafka protocol, ConfigResource.Type.
const (
	resourceTopic  = 2
	resourceBroker = 4
)

func (s *Set) apply(wishes map[topic.Partition]wish, first bool) error {
	var errs []error
	if first {
		errs = append(errs, s.removeStrays(wishes))
	}
	// Deletions first: a topic made again under its name needs the name free.
	now := *s.partitions.Load()
	kept := maps.Clone(now)
	maps.DeleteFunc(kept, func(name topic.Partition, e *entry) bool {
		w, wanted := wishes[name]
		return !wanted || w.id != e.id
	})
	s.publish(kept)
	errs = append(errs, s.drop(now, kept)...)

	next, opened, failed := s.take(wishes, kept, first)
	s.publish(next)
	s.forgetDamage(wishes)
	s.assign(wishes)
	if opened {
		// A directory that failed in between has told nobody who is new.
		for _, dir := range s.store.failedDirs() {
			s.DirFailed(dir, nil)
		}
	}
	return errors.Join(append(errs, failed...)...)
}

func (s *Set) publish(next map[topic.Partition]*entry) { s.partitions.Store(&next) }

// drop ends what is in now and not in next, with its files, and forgets the numbers of
// topics that are wholly gone.
func (s *Set) drop(now, next map[topic.Partition]*entry) (errs []error) {
	left := make(map[string]bool, len(next))
	for name := range next {
		left[name.Topic] = true
	}
	gone := make(map[string]bool)
	for name, e := range now {
		if next[name] != nil {
			continue
		}
		if e.partition != nil {
			e.partition.end(ErrUnknownPartition)
			if err := s.store.remove(name, e.id); err != nil && !errors.Is(err, storage.ErrOffline) {
				errs = append(errs, fmt.Errorf("cannot delete partition %q: %w", name, err))
			}
		}
		if !left[name.Topic] {
			gone[name.Topic] = true
		}
	}
	for name := range gone {
		s.counters.DropTopic(name)
	}
	return errs
}

// open makes the log of a partition or finds it.
func (s *Set) open(name topic.Partition, w wish, first bool) *entry {
	e := &entry{id: w.id, epoch: -1}
	// A partition that was there before the start and is not in the directories that are
	// online lies in one that is not. Making it anew, empty, would lose it (R19).
	if first && !s.store.has(name, w.id) && len(s.store.failedDirs()) > 0 {
		e.err, e.lost = storage.ErrOffline, true
		return e
	}
	log, err := s.store.create(name, w.id, LogConfig(w.set.values, topic.IsInternal(name.Topic)))
	if err != nil {
		e.err, e.epoch = fmt.Errorf("%w: %w", storage.ErrOffline, err), w.state.LeaderEpoch
		return e
	}
	e.partition = newPartition(s, name, w.id, log, w.set)
	if log.Err() != nil {
		e.epoch = w.state.LeaderEpoch
		e.partition.end(storage.ErrOffline)
	}
	return e
}

// follow brings one partition's settings and role up to date.
func (s *Set) follow(p *Partition, w wish) error {
	if p.ended() != nil {
		return nil
	}
	if before := p.settings.Load(); before.values != w.set.values {
		p.log.Reconfigure(LogConfig(w.set.values, topic.IsInternal(p.name.Topic)))
	}
	return p.follow(w.state, w.set)
}

// removeStrays deletes logs of topics that were deleted while this broker was down. When
// not one log belongs to the metadata, it is the metadata that are strange, and nothing is
// deleted (R25).
func (s *Set) removeStrays(wishes map[topic.Partition]wish) error {
	var strays []held
	known := false
	for _, h := range s.store.logs() {
		if w, ok := wishes[h.name]; ok && w.id == h.id {
			known = true
			continue
		}
		strays = append(strays, h)
	}
	if len(strays) > 0 && !known {
		s.o.Logger.Warn("no log on disk belongs to the metadata; nothing is deleted", "logs", len(strays))
		return nil
	}
	var errs []error
	for _, h := range strays {
		s.o.Logger.Info("deleting the log of a topic that was deleted meanwhile", "partition", h.name.String(), "topicID", h.id.String())
		if err := s.store.remove(h.name, h.id); err != nil {
			errs = append(errs, fmt.Errorf("cannot delete partition %q: %w", h.name, err))
		}
	}
	return errors.Join(errs...)
}
