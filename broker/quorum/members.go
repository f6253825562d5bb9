package quorum

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/topic"
)

// Errors of changes of who votes; compare with errors.Is.
var (
	// ErrVoterThere: the node votes already.
	ErrVoterThere = errors.New("the node votes already")
	// ErrVoterNotFound: no such voter, or no such member.
	ErrVoterNotFound = errors.New("there is no such member")
	// ErrVoterBehind: the member has not caught up with the log, or is silent.
	ErrVoterBehind = errors.New("the member has not caught up")
	// ErrMajority: the change would leave too few voters that answer.
	ErrMajority = errors.New("too few voters would answer")
)

const (
	// maxVoters bounds the voters: 5, and room to put new ones in before old ones go.
	maxVoters = 7
	// silentFor is how long a member that does not answer counts as alive.
	silentFor = 10 * time.Second
	// joinTime is how long an application, with its change of members, may take.
	joinTime = 15 * time.Second
	// lookPause is how often a member that catches up is looked at.
	lookPause = 50 * time.Millisecond
)

// application is what a node sends that wants to be a member, or to be found at another address.
type application struct {
	Cluster string        `json:"cluster"`
	Secret  []byte        `json:"secret,omitempty"` // of the token; none from a member
	Member  raft.ServerID `json:"member"`
	Address string        `json:"address"`
}

// change asks raft for something that needs the voters, such as a change of members, and waits for it.
//
// Errors: NotLeaderError, ErrNoLeader, ErrClosed, ErrFailed; ctx's: not known.
func (q *Quorum) change(ctx context.Context, what func(r *raft.Raft) raft.Future) error {
	q.mu.Lock()
	r := q.mu.raft
	if r == nil {
		q.mu.Unlock()
		return ErrClosed
	}
	q.calls.Add(1)
	q.mu.Unlock()
	said := make(chan error, 1)
	go func() {
		defer q.calls.Done()
		said <- q.answer(what(r))
	}()
	select {
	case err := <-said:
		if err != nil {
			return q.explain(err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("cannot wait for the voters: %w", ctx.Err())
	case <-q.doorClosing():
		return ErrClosed
	case <-q.failed:
		return q.failedErr()
	}
}

// doorClosing is closed with the controller listener; never if there is none.
func (q *Quorum) doorClosing() <-chan struct{} {
	if q.door == nil {
		return nil
	}
	return q.door.closing
}

// members gives who is a member. Requires: this node leads, else NotLeaderError.
func (q *Quorum) members() (members []raft.Server, err error) {
	if leads, _ := q.Leading(); !leads {
		if other := q.Leader(); other != metadata.NoBroker && other != q.o.Node {
			return nil, &NotLeaderError{other}
		}
		return nil, ErrNoLeader
	}
	q.mu.Lock()
	r := q.mu.raft
	q.mu.Unlock()
	if r == nil {
		return nil, ErrClosed
	}
	f := r.GetConfiguration()
	if err := f.Error(); err != nil {
		return nil, q.explain(err)
	}
	return f.Configuration().Servers, nil
}

// alive tells whether a member has answered lately. Requires: this node leads.
func (q *Quorum) alive(id raft.ServerID) bool {
	return id == q.self() || q.o.Now().Sub(q.meter.Load().progress(id).heard) < silentFor
}

// admit answers an application.
func (q *Quorum) admit(a application) reply {
	ctx, cancel := context.WithTimeout(context.Background(), joinTime)
	defer cancel()
	q.changing.Lock() // one at a time
	defer q.changing.Unlock()
	members, err := q.members()
	if err != nil {
		return q.pointToLeader(err)
	}
	if cluster := q.ClusterID(); a.Cluster != cluster {
		return reply{Refused: fmt.Sprintf("the application is for cluster %q, this is cluster %q", a.Cluster, cluster)}
	}
	if nodeOf(a.Member) == metadata.NoBroker || directory(a.Member).IsZero() && len(a.Secret) > 0 || a.Address == "" || checkAddress(a.Address) != nil {
		return reply{Refused: fmt.Sprintf("member %q at %q is not a name and an address", a.Member, a.Address)}
	}
	var same, gone *raft.Server
	for i, s := range members {
		_, at := splitAddress(s.Address)
		switch {
		case s.ID == a.Member:
			same = &members[i]
		case nodeOf(s.ID) == nodeOf(a.Member):
			if gone = &members[i]; s.Suffrage == raft.Voter {
				return reply{Refused: fmt.Sprintf("node %d is a voter already, as another incarnation: this is a second node with that ID, or its disk was lost. If it is lost for good, run `belfry cluster voters remove %[1]d` and try again", nodeOf(s.ID))}
			}
			if q.alive(s.ID) {
				return reply{Refused: fmt.Sprintf("node %d is a member already and answers at %s: give this node another node.id, or stop that one and try again after %v", nodeOf(s.ID), at, silentFor)}
			}
		case at == a.Address:
			return reply{Refused: fmt.Sprintf("node %d is a member at %s already: give this node another address", nodeOf(s.ID), at)}
		}
	}
	if same == nil {
		setting := q.Image().Config(metadata.Resource{Kind: metadata.BrokerResource})[TokensSetting]
		if err := admits(setting, a.Secret, q.o.Now()); err != nil {
			return reply{Refused: err.Error()}
		}
	}
	if err := q.enrol(ctx, a, same, gone); err != nil {
		return q.pointToLeader(err)
	}
	return reply{Cluster: a.Cluster}
}

// enrol puts an applicant among the members; same is its place there, gone that of its
// earlier incarnation.
func (q *Quorum) enrol(ctx context.Context, a application, same, gone *raft.Server) error {
	address := memberAddress(a.Member, a.Address)
	switch {
	case same != nil && same.Address == address:
		return nil
	case same != nil && same.Suffrage == raft.Voter:
		return q.change(ctx, func(r *raft.Raft) raft.Future { return r.AddVoter(a.Member, address, 0, joinTime) })
	case gone != nil:
		if err := q.change(ctx, func(r *raft.Raft) raft.Future { return r.RemoveServer(gone.ID, 0, joinTime) }); err != nil {
			return err
		}
	}
	err := q.change(ctx, func(r *raft.Raft) raft.Future { return r.AddNonvoter(a.Member, address, 0, joinTime) })
	if err == nil {
		q.o.Logger.Info("a node follows the metadata log", "member", string(a.Member), "address", a.Address)
	}
	return err
}

// pointToLeader answers an application that must be made elsewhere or later.
func (q *Quorum) pointToLeader(err error) reply {
	if errors.As(err, new(*NotLeaderError)) {
		q.mu.Lock()
		r := q.mu.raft
		q.mu.Unlock()
		if r != nil {
			at, _ := r.LeaderWithID()
			if _, hostPort := splitAddress(at); hostPort != "" {
				return reply{Leader: hostPort}
			}
		}
	}
	return reply{Later: err.Error()}
}

// find gives a member. The zero directory stands for any.
func find(members []raft.Server, node metadata.BrokerID, dir topic.ID) (raft.Server, error) {
	for _, s := range members {
		if nodeOf(s.ID) == node && (dir.IsZero() || directory(s.ID) == dir) {
			return s, nil
		}
	}
	if !dir.IsZero() {
		return raft.Server{}, fmt.Errorf("%w: node %d with directory %s (members are %s)", ErrVoterNotFound, node, dir, named(members))
	}
	return raft.Server{}, fmt.Errorf("%w: node %d (members are %s)", ErrVoterNotFound, node, names(members))
}

func names(members []raft.Server) string {
	text := ""
	for i, s := range members {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprint(nodeOf(s.ID))
	}
	return text
}

// named is names with the members' directories.
func named(members []raft.Server) string {
	var all []string
	for _, s := range members {
		all = append(all, fmt.Sprintf("%d with %s", nodeOf(s.ID), directory(s.ID)))
	}
	return strings.Join(all, ", ")
}

// AddVoter gives a member that follows the log a vote, once it has caught up. A zero
// dir stands for the member's only incarnation.
//
// Blocks: until it has caught up, and for the change. Errors: ErrVoterThere,
// ErrVoterNotFound, ErrVoterBehind, ErrMajority, and those of Propose.
func (q *Quorum) AddVoter(ctx context.Context, node metadata.BrokerID, dir topic.ID) error {
	q.changing.Lock()
	defer q.changing.Unlock()
	members, err := q.members()
	if err != nil {
		return err
	}
	s, err := find(members, node, dir)
	switch {
	case err != nil:
		return err
	case s.Suffrage == raft.Voter:
		return fmt.Errorf("%w: node %d", ErrVoterThere, node)
	case len(voters(members)) >= maxVoters:
		return fmt.Errorf("%w: there are %d voters already; remove one first", ErrMajority, maxVoters)
	}
	if err := q.awaitMember(ctx, s.ID); err != nil {
		return err
	}
	err = q.change(ctx, func(r *raft.Raft) raft.Future { return r.AddVoter(s.ID, s.Address, 0, joinTime) })
	if err == nil {
		q.o.Logger.Info("a node votes on the metadata log now", "member", string(s.ID))
	}
	return err
}

// awaitMember waits until a member has all that is committed now.
func (q *Quorum) awaitMember(ctx context.Context, id raft.ServerID) error {
	status, ok := q.Status()
	if !ok {
		return ErrClosed
	}
	for {
		p := q.meter.Load().progress(id)
		switch {
		case p.match+1 >= status.Committed && q.alive(id):
			return nil
		case !q.alive(id):
			return fmt.Errorf("%w: node %d does not answer", ErrVoterBehind, nodeOf(id))
		}
		if pause(ctx, lookPause) != nil {
			return fmt.Errorf("%w: node %d has entries up to %d, %d are committed; try again", ErrVoterBehind, nodeOf(id), p.match, status.Committed-1)
		}
		if leads, _ := q.Leading(); !leads {
			return ErrNoLeader
		}
	}
}

func voters(members []raft.Server) (out []raft.Server) {
	for _, s := range members {
		if s.Suffrage == raft.Voter {
			out = append(out, s)
		}
	}
	return out
}

// RemoveVoter takes a member's vote; it goes on following the log if it is there. A
// zero dir stands for any incarnation.
//
// Errors: ErrVoterNotFound, ErrMajority, and those of Propose.
func (q *Quorum) RemoveVoter(ctx context.Context, node metadata.BrokerID, dir topic.ID) error {
	q.changing.Lock()
	defer q.changing.Unlock()
	members, err := q.members()
	if err != nil {
		return err
	}
	all := voters(members)
	s, err := find(all, node, dir)
	if err != nil {
		return err
	}
	answer, rest := 0, len(all)-1
	for _, v := range all {
		if v.ID != s.ID && q.alive(v.ID) {
			answer++
		}
	}
	if answer < rest/2+1 {
		return fmt.Errorf("%w: without node %d there are %d voters, and %d of them answer; bring the others back or add a voter first", ErrMajority, node, rest, answer)
	}
	err = q.change(ctx, func(r *raft.Raft) raft.Future { return r.DemoteVoter(s.ID, 0, joinTime) })
	if err == nil {
		q.o.Logger.Info("a node votes on the metadata log no more", "member", string(s.ID))
	}
	return err
}

// Forget takes a node that does not vote out of the members, because it is gone for
// good. A voter stays one until RemoveVoter.
//
// Errors: those of Propose.
func (q *Quorum) Forget(ctx context.Context, node metadata.BrokerID) error {
	q.changing.Lock()
	defer q.changing.Unlock()
	members, err := q.members()
	if err != nil {
		return err
	}
	for _, s := range members {
		if nodeOf(s.ID) == node && s.Suffrage != raft.Voter {
			if err := q.change(ctx, func(r *raft.Raft) raft.Future { return r.RemoveServer(s.ID, 0, joinTime) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// renewAddress tells the leader where this member is found now, until its log says so.
// Why any member is asked who leads: a leader that looks for this node at its old
// address cannot make itself known.
func (q *Quorum) renewAddress(ctx context.Context) {
	if q.door == nil {
		return
	}
	want := memberAddress(q.self(), q.o.Network.Address)
	for pause(ctx, q.o.Heartbeat) == nil {
		s, ok := q.Status()
		place, known := s.addresses[q.self()]
		switch leads, _ := q.Leading(); {
		case !ok || leads: // takeOver does it for a leader
		case known && place == want:
			return
		case known:
			q.announce(s)
		}
	}
}

// announce asks members, and whom they call their leader, to note this node's address.
func (q *Quorum) announce(s Status) {
	g := greeting{Purpose: forJoin, Join: &application{Cluster: q.ClusterID(), Member: q.self(), Address: q.o.Network.Address}}
	for id, address := range s.addresses {
		_, at := splitAddress(address)
		if id == q.self() || at == "" {
			continue
		}
		r, err := q.door.ask(at, g, askTime)
		if err == nil && r.Leader != "" {
			r, err = q.door.ask(r.Leader, g, joinTime)
		}
		if err == nil && r.Cluster != "" {
			return // the leader finds this node now, and its log will say so
		}
		if err != nil {
			q.o.Logger.Debug("cannot tell a member where this node is found now", "member", string(id), "err", err)
		}
	}
}

// correctAddress notes where this node, which leads, is found now.
func (q *Quorum) correctAddress(r *raft.Raft) error {
	f := r.GetConfiguration()
	if err := f.Error(); err != nil || q.door == nil {
		return err
	}
	want := memberAddress(q.self(), q.o.Network.Address)
	for _, s := range f.Configuration().Servers {
		if s.ID == q.self() && s.Address != want {
			return q.answer(r.AddVoter(s.ID, want, 0, joinTime))
		}
	}
	return nil
}
