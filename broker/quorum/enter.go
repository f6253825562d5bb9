package quorum

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/topic"
)

// Pauses while a node forms or joins a cluster.
const (
	askPause = 100 * time.Millisecond // between two rounds of questions
	askTime  = 2 * time.Second        // for one answer
	// remindPause is how often the log says what is waited for, if that does not change.
	remindPause = 10 * time.Second
)

// Enter makes this node a member of its cluster: it forms one with the other first
// controllers, or joins one, and returns when it knows the cluster's ID; at once if it
// is a member already. It begins to answer other nodes. waiting is told what is
// waited for whenever that changes; it may be nil. It is called once, before Run.
//
// Blocks: until all first controllers are there, or the cluster has a leader that
// takes this node in. Errors: ctx's; this node can be no member, in one line that
// says what to do.
func (q *Quorum) Enter(ctx context.Context, waiting func(what string)) error {
	if q.o.Network == nil {
		return nil
	}
	if waiting == nil {
		waiting = func(string) {}
	}
	if q.ident.incarnation == "" && !q.member {
		q.setIdent(func(m *member) { m.incarnation = topic.NewID().String() })
		if err := q.ident.write(q.o.Dir); err != nil {
			return err
		}
	}
	q.door.open()
	if q.member {
		return nil
	}
	say := q.sayer(waiting)
	switch {
	case q.o.Network.Join != nil && q.ident.founders == "":
		return q.join(ctx, *q.o.Network.Join, say)
	case q.lostMetadata():
		return fmt.Errorf("cannot form a cluster: this node's log directories belong to cluster %q or hold messages, but the cluster's metadata in %q are not there: put that directory back, or start with a token of `belfry cluster join-token` to get them from the other members", q.o.ClusterID, q.o.Dir)
	case !slices.ContainsFunc(q.o.Network.First, func(v Voter) bool { return v.Node == q.o.Node }):
		return errNotFirst
	}
	return q.form(ctx, say)
}

// lostMetadata tells that this node was a member before.
func (q *Quorum) lostMetadata() bool {
	return q.o.MustExist || q.o.ClusterID != "" && q.o.ClusterID != q.ident.cluster
}

// sayer logs what is waited for when it changes, and now and then.
func (q *Quorum) sayer(waiting func(string)) func(string) {
	var last string
	var at time.Time
	return func(what string) {
		if what == last && time.Since(at) < remindPause {
			return
		}
		q.o.Logger.Info("waiting", "for", what)
		waiting("waiting for " + what)
		last, at = what, time.Now()
	}
}

// setIdent changes who this node says it is.
func (q *Quorum) setIdent(change func(*member)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	change(&q.ident)
}

// standing is what this node answers to one that asks whether a cluster can form.
func (q *Quorum) standing() standing {
	q.mu.Lock()
	defer q.mu.Unlock()
	return standing{
		Node: q.o.Node, Incarnation: q.ident.incarnation, List: listText(q.o.Network.First),
		Founders: q.ident.founders, Cluster: q.clusterIDLocked(), Formed: q.member,
	}
}

// form asks the other first controllers until a cluster is formed.
func (q *Quorum) form(ctx context.Context, say func(string)) error {
	for {
		v, err := judge(q.standing(), q.o.Network.First, q.hear())
		switch {
		case err != nil:
			return err
		case v.promise != "":
			next := q.ident
			next.founders, next.cluster = v.promise, clusterOf(v.promise)
			if err := next.write(q.o.Dir); err != nil {
				return err
			}
			q.setIdent(func(m *member) { *m = next })
			continue
		case v.form != "":
			if err := q.found.bootstrap(&q.o, q.store, foundersConfiguration(v.form)); err != nil {
				return err
			}
			q.o.Logger.Info("formed a cluster", "cluster", q.ident.cluster, "founders", v.form)
			q.becomeMember()
			return nil
		}
		say(v.wait)
		if err := pause(ctx, askPause); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// hear asks all other first controllers at the same time.
func (q *Quorum) hear() map[metadata.BrokerID]standing {
	var mu sync.Mutex
	var asking sync.WaitGroup
	heard := map[metadata.BrokerID]standing{}
	for _, v := range q.o.Network.First {
		if v.Node == q.o.Node {
			continue
		}
		asking.Go(func() {
			r, err := q.door.ask(v.Address, greeting{Purpose: forForm}, askTime)
			if err != nil || r.State == nil {
				return // it is missing, which is all that matters
			}
			mu.Lock()
			defer mu.Unlock()
			heard[v.Node] = *r.State
		})
	}
	asking.Wait()
	return heard
}

// becomeMember notes that this node has a place in a cluster.
func (q *Quorum) becomeMember() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.member = true
}

// join asks members to take this node in, until one does.
func (q *Quorum) join(ctx context.Context, t Token, say func(string)) error {
	if q.o.ClusterID != "" && q.o.ClusterID != t.Cluster {
		return fmt.Errorf("cannot join cluster %q: this node's log directories belong to cluster %q: use other directories, or the token of the right cluster", t.Cluster, q.o.ClusterID)
	}
	next := q.ident
	asked := application{
		Cluster: t.Cluster, Secret: t.Secret, Member: next.id(), Address: q.o.Network.Address,
	}
	for at, hints := 0, slices.Clone(t.Controllers); ; at++ {
		r, err := q.door.ask(hints[at%len(hints)], greeting{Purpose: forJoin, Join: &asked}, joinTime)
		refused := new(refusedError)
		switch {
		case errors.As(err, &refused):
			return fmt.Errorf("cannot join cluster %q: %w", t.Cluster, err)
		case err != nil:
			say(fmt.Sprintf("a member of cluster %s to answer (%v)", t.Cluster, err))
		case r.Leader != "" && !slices.Contains(hints, r.Leader):
			hints = slices.Insert(hints, (at+1)%len(hints), r.Leader)
			continue
		case r.Leader != "":
			at = slices.Index(hints, r.Leader) - 1
			say("the leader of cluster " + t.Cluster + " at " + r.Leader)
		case r.Later != "":
			say(fmt.Sprintf("cluster %s: %s", t.Cluster, r.Later))
		case r.Cluster == t.Cluster:
			next.cluster = t.Cluster
			if err := next.write(q.o.Dir); err != nil {
				return err
			}
			q.setIdent(func(m *member) { *m = next })
			q.o.Logger.Info("joined a cluster", "cluster", t.Cluster, "as", string(next.id()))
			q.becomeMember()
			return nil
		default:
			say("a member of cluster " + t.Cluster + " that answers as one")
		}
		if err := pause(ctx, askPause); err != nil {
			return err
		}
	}
}

// greetMember is what this node says to a member that raft wants to reach.
func (q *Quorum) greetMember(to raft.ServerID) greeting {
	return greeting{Purpose: forRaft, Cluster: q.ClusterID(), From: q.self(), To: to}
}

// receive answers a greeting.
func (q *Quorum) receive(g greeting) reply {
	switch g.Purpose {
	case forForm:
		s := q.standing()
		return reply{State: &s}
	case forJoin:
		if g.Join == nil {
			return reply{Refused: "the application is missing"}
		}
		return q.admit(*g.Join)
	case forRaft:
		return q.receiveRaft(g)
	}
	return reply{Refused: fmt.Sprintf("purpose %q is not known to this version", g.Purpose)}
}

// receiveRaft lets members of this cluster pass that want this very member.
func (q *Quorum) receiveRaft(g greeting) reply {
	m, cluster, self := q.meter.Load(), q.ClusterID(), q.self()
	switch {
	case m == nil || m.raft.Load() == nil:
		return reply{Later: "it is about to start"}
	case cluster != "" && g.Cluster != "" && g.Cluster != cluster:
		return reply{Refused: fmt.Sprintf("node %d belongs to cluster %q, this is node %d of cluster %q", nodeOf(g.From), g.Cluster, q.o.Node, cluster)}
	case g.To != self:
		return reply{Refused: fmt.Sprintf("node %d of cluster %q wants member %q, this is member %q: its disk was lost, or another node has its address", nodeOf(g.From), g.Cluster, g.To, self)}
	case g.From == self || nodeOf(g.From) == q.o.Node:
		return reply{Refused: fmt.Sprintf("another node says that it is node %d, too", q.o.Node)}
	}
	return reply{}
}

// self is this member's name.
func (q *Quorum) self() raft.ServerID {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ident.incarnation == "" {
		return serverID(q.o.Node)
	}
	return q.ident.id()
}

// ClusterID is the ID of the cluster that this node belongs to; "" while it belongs to none.
func (q *Quorum) ClusterID() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.clusterIDLocked()
}

func (q *Quorum) clusterIDLocked() string {
	if q.ident.cluster != "" {
		return q.ident.cluster
	}
	if id := q.img.Load().ClusterID(); id != "" {
		return id
	}
	if q.found != nil && q.found.clusterID != "" {
		return q.found.clusterID
	}
	return q.o.ClusterID
}

// hostPorts gives where members are found.
func hostPorts(servers []raft.Server) string {
	var out []string
	for _, s := range servers {
		_, at := splitAddress(s.Address)
		out = append(out, at)
	}
	return strings.Join(out, ", ")
}
