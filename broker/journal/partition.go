package journal

import (
	"fmt"
	"time"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/replica"
)

// OverReplica shows a replica as the log under a journal.
func OverReplica(p *replica.Partition, now func() time.Time) Log { return partitionLog{p, now} }

type partitionLog struct {
	p   *replica.Partition
	now func() time.Time
}

func (l partitionLog) CheckLeader(e record.Epoch) error { return l.p.CheckLeader(e) }

func (l partitionLog) Settled() (record.Offset, error) {
	end, _, err := l.p.Latest(false)
	return end, err
}

func (l partitionLog) Start() record.Offset     { return l.p.LogStart() }
func (l partitionLog) Committed() record.Offset { return l.p.HighWatermark() }

func (l partitionLog) Read(from record.Offset, max int) ([]byte, error) {
	f, err := l.p.Read(from, max, true, false)
	if err != nil || f.Slice.Len() == 0 {
		return nil, err
	}
	defer f.Slice.Release()
	b := make([]byte, f.Slice.Len())
	if n, err := f.Slice.ReadAt(b, 0); n < len(b) {
		return nil, fmt.Errorf("cannot read %d bytes of %q: got %d: %w", len(b), l.p.Name(), n, err)
	}
	return b, nil
}

func (l partitionLog) Append(e record.Epoch, batch []byte) (record.Offset, error) {
	a, err := l.p.AppendIn(e, batch, -1, l.now())
	return a.Last + 1, err
}

func (l partitionLog) Watch(wake func()) func() { return l.p.Watch(wake) }
