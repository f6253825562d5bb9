package replica

import (
	"errors"
	"fmt"
	"math"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/belfry-mq/belfry/broker/peer"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage"
)

// errMoved tells that a partition's leadership is another one by now; nothing was done.
var errMoved = errors.New("the partition is led in another epoch by now")

// position gives where this follower's next fetch begins, if it still follows in that epoch.
func (p *Partition) position(epoch record.Epoch) (peer.FetchPartition, bool) {
	p.role.RLock()
	defer p.role.RUnlock()
	if !p.follows(epoch) {
		return peer.FetchPartition{}, false
	}
	end := p.log.End()
	f := peer.FetchPartition{
		PartitionID: peer.PartitionID{Topic: p.id, Partition: p.name.Partition},
		LeaderEpoch: epoch, Offset: end, LastFetched: -1, LogStart: p.log.Start(),
	}
	if end > f.LogStart && !p.flaws.cutToHW {
		f.LastFetched = p.log.EpochAt(end - 1)
	}
	return f, true
}

// follows tells whether this replica is a follower in that epoch. Requires: role.
func (p *Partition) follows(epoch record.Epoch) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.gone == nil && p.mu.lead == nil && p.mu.epoch == epoch
}

// receive takes what the leader of an epoch answered to a fetch. news tells that the next
// fetch has something else to say.
//
// Errors: errMoved; what the leader refused; a log that cannot be written. Whatever it is,
// the fetch may be made again.
func (p *Partition) receive(epoch record.Epoch, asked *peer.FetchPartition, f *peer.FetchedPartition) (news bool, err error) {
	p.role.RLock()
	defer p.role.RUnlock()
	if !p.follows(epoch) && !p.flaws.unfenced {
		return false, errMoved
	}
	if p.log.End() != asked.Offset {
		return true, nil // an answer to what was asked before the log was cut
	}
	switch {
	case f.Code == kerr.OffsetOutOfRange.Code:
		return true, p.restart(f)
	case f.Code != 0:
		return false, fmt.Errorf("cannot fetch partition %q: %w", p.name, kerr.ErrorForCode(f.Code))
	case f.Diverged:
		return true, p.part(f)
	}
	start := p.log.Start()
	if len(f.Records) > 0 {
		if err := p.store(epoch, f); err != nil {
			return false, err
		}
	}
	if err := p.keepUp(f.HighWatermark, f.LogStart); err != nil {
		return false, err
	}
	return len(f.Records) > 0 || p.log.Start() != start, nil
}

// part cuts what the leader does not have: the logs are the same up to the end of the last
// epoch that both know, the smaller end of the two (R2, KIP-101, KIP-279).
func (p *Partition) part(f *peer.FetchedPartition) error {
	to := f.EndOffset
	if _, own := p.log.EndOf(f.EndEpoch); own >= 0 {
		to = min(to, own)
	}
	if end := p.log.End(); to < 0 || to >= end {
		return fmt.Errorf("cannot follow partition %q: its leader says that the logs part at offset %d, this one ends at %d", p.name, to, end)
	}
	return p.cut(to)
}

// cut truncates the log.
func (p *Partition) cut(to record.Offset) error {
	if to <= p.log.Start() {
		return p.reset(p.log.Start())
	}
	if err := p.log.Truncate(to); err != nil {
		return fmt.Errorf("cannot cut partition %q at offset %d: %w", p.name, to, err)
	}
	p.lower()
	return nil
}

// reset makes the log an empty one.
func (p *Partition) reset(at record.Offset) error {
	if err := p.log.Reset(at); err != nil {
		return fmt.Errorf("cannot begin partition %q anew at offset %d: %w", p.name, at, err)
	}
	p.lower()
	return nil
}

// lower brings the high watermark back below the log's end. Only an election of a replica
// that was not in sync makes that necessary: what is committed is never cut.
func (p *Partition) lower() {
	p.mu.Lock()
	defer p.mu.Unlock()
	end := p.log.End()
	hw := p.HighWatermark()
	if hw > end {
		p.logger.Warn("committed records were cut: the leader does not have them", "partition", p.name.String(), "from", int64(end), "committed", int64(hw))
	}
	if now := min(max(hw, p.log.Start()), end); now != hw {
		p.hw.Store(int64(now))
		p.log.SetHighWatermark(now)
	}
}

// restart answers "out of range": the leader's log begins behind this one's end, or ends
// before it although this one has no record that could tell where they part.
func (p *Partition) restart(f *peer.FetchedPartition) error {
	start, end := p.log.Start(), p.log.End()
	switch {
	case f.LogStart < 0:
		return fmt.Errorf("cannot fetch partition %q: %w", p.name, kerr.ErrorForCode(f.Code))
	case f.LogStart > end || start == end && f.LogStart != end:
		p.logger.Info("the leader's log does not have what follows: beginning anew", "partition", p.name.String(), "end", int64(end), "leaderStart", int64(f.LogStart))
		return p.reset(f.LogStart)
	}
	return fmt.Errorf("cannot fetch partition %q from offset %d: %w", p.name, end, kerr.ErrorForCode(f.Code))
}

// store appends the leader's batches as they are (R7), each with its check sum looked at (R21).
func (p *Partition) store(epoch record.Epoch, f *peer.FetchedPartition) error {
	b, err := p.fitting(epoch, f.Records)
	if err != nil || len(b) == 0 {
		return err
	}
	_, err = p.log.Append(b, storage.Append{Now: p.now().UnixMilli()})
	if err != nil {
		return fmt.Errorf("cannot append to partition %q: %w", p.name, err)
	}
	p.numbers.ReplicationIn(len(b))
	return nil
}

// fitting gives the whole, good batches from the log's end on. A batch that begins before
// the end of an empty log is the first one of the leader, whose log start lies within it.
func (p *Partition) fitting(epoch record.Epoch, b []byte) ([]byte, error) {
	end, from, to := p.log.End(), -1, 0
	for to < len(b) {
		if len(b)-to < record.HeaderSize {
			break
		}
		h, err := record.ReadHeader(b[to:])
		if err == nil && h.Size() > len(b)-to {
			break // cut off by the leader's limit
		}
		if err == nil && !p.flaws.blind {
			_, err = record.Verify(b[to : to+h.Size()])
		}
		if err == nil && h.LeaderEpoch > epoch && !p.flaws.unfenced {
			// Why: its sender lost the leadership while it read, and its log is another's now.
			err = fmt.Errorf("it is of epoch %d, followed is %d", h.LeaderEpoch, epoch)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot take the leader's batch for partition %q after offset %d: %w", p.name, end, err)
		}
		switch {
		case from >= 0 || h.Base >= end && h.Last()-p.log.Start() <= math.MaxInt32:
		case h.Last() < end: // it is there already
			to += h.Size()
			continue
		case p.log.Start() == end:
			// Why also far above: what was compacted away leaves a gap that no segment can span.
			if err := p.reset(h.Base); err != nil {
				return nil, err
			}
		case h.Base < end:
			return nil, fmt.Errorf("cannot take the leader's batch for partition %q: it begins at offset %d, this log ends at %d", p.name, h.Base, end)
		}
		if from < 0 {
			from = to
		}
		to += h.Size()
	}
	if from < 0 {
		return nil, nil
	}
	return b[from:to], nil
}

// keepUp takes over the leader's high watermark, as far as this log goes, and its log start.
func (p *Partition) keepUp(hw, start record.Offset) error {
	end := p.log.End()
	if at := min(start, end); at > p.log.Start() {
		if _, err := p.log.DeleteBefore(at); err != nil {
			return fmt.Errorf("cannot delete the beginning of partition %q: %w", p.name, err)
		}
	}
	p.mu.Lock()
	hw = max(min(hw, end), p.log.Start())
	var wake []*watcher
	if p.mu.lead == nil && hw > p.HighWatermark() {
		p.hw.Store(int64(hw))
		p.log.SetHighWatermark(hw)
		wake = p.mu.watchers.all()
	}
	p.mu.Unlock()
	wakeAll(wake)
	return nil
}

// synced tells whether everything in the log counts as had.
func (p *Partition) synced() bool { return p.log.Durable() >= p.log.End() || p.flaws.early }

// onDurable sets who is told when more of a follower's log is durable.
func (p *Partition) onDurable(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.durable = f
}
