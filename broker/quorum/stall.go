package quorum

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// errStalled is why a voter whose disk hangs is given up.
var errStalled = errors.New("a write to the metadata log does not end")

// stallPause is how often writes that do not end are looked for.
const stallPause = 100 * time.Millisecond

// watchStalls looks for writes that do not end (R16). The library waits for its disk
// in the one goroutine that could give leadership away, while others send heartbeats:
// the cluster would stand still. So after Options.Stall this node falls silent and
// asks the voter that has most to stand for election; when the disk works again it
// follows. After Options.StallEnd it counts as failed, if another voter can lead.
func (q *Quorum) watchStalls(ctx context.Context, r *raft.Raft) {
	for pause(ctx, stallPause) == nil {
		lasts := q.store.writing()
		m := q.meter.Load()
		switch {
		case lasts < q.o.Stall:
			if m.silent.CompareAndSwap(true, false) {
				q.o.Logger.Warn("the disk of the metadata log works again", "dir", q.o.Dir)
				if r.State() == raft.Leader { // nobody took over, or raft does not know yet
					term := q.setLeading(false)
					q.watching.Go(func() { q.ascend(r, term) })
				}
			}
		case lasts >= q.o.StallEnd && !q.lastVoter(r):
			q.store.give(fmt.Errorf("cannot append to the metadata log in %q: %w (%v)", q.o.Dir, errStalled, lasts.Round(time.Second)))
			return
		case r.State() == raft.Leader && m.silent.CompareAndSwap(false, true):
			q.o.Logger.Error("a write to the metadata log hangs", "dir", q.o.Dir, "for", lasts)
			q.setLeading(false)
			q.handOver(r, m)
		}
	}
}

// lastVoter tells that no other node could lead in this one's place.
func (q *Quorum) lastVoter(r *raft.Raft) bool {
	f := r.GetConfiguration()
	return f.Error() != nil || len(voters(f.Configuration().Servers)) < 2
}

// handOver asks the voter that has most of the log to stand for election at once.
func (q *Quorum) handOver(r *raft.Raft, m *meter) {
	f := r.GetConfiguration()
	if f.Error() != nil {
		return
	}
	var next raft.Server
	var most uint64
	for _, v := range voters(f.Configuration().Servers) {
		if p := m.progress(v.ID); v.ID != q.self() && q.alive(v.ID) && p.match >= most {
			next, most = v, p.match
		}
	}
	if next.ID == "" {
		return // nobody to ask; the silence goes on
	}
	q.o.Logger.Warn("asks another voter to lead the metadata log", "voter", string(next.ID))
	req := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(q.self()), Addr: []byte(m.LocalAddr())}}
	if err := m.TimeoutNow(next.ID, next.Address, req, new(raft.TimeoutNowResponse)); err != nil {
		q.o.Logger.Warn("cannot ask another voter to lead the metadata log", "voter", string(next.ID), "err", err)
	}
}

// TransferLeadership lets another voter lead, before this node stops.
//
// Errors: this node does not lead, or no other voter has caught up in time; then
// nothing changed.
func (q *Quorum) TransferLeadership(ctx context.Context) error {
	if leads, _ := q.Leading(); !leads {
		return nil
	}
	return q.change(ctx, func(r *raft.Raft) raft.Future { return r.LeadershipTransfer() })
}
