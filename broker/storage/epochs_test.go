package storage

import (
	"slices"
	"testing"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
)

func TestEpochCache(t *testing.T) {
	var c epochs
	for _, e := range []epochStart{{1, 0}, {3, 10}, {4, 20}, {5, 20}, {2, 30}, {7, 40}} {
		c = c.begin(e.epoch, e.start)
	}
	// 4 had no record, 2 went back.
	if want := (epochs{{1, 0}, {3, 10}, {5, 20}, {7, 40}}); !slices.Equal(c, want) {
		t.Fatalf("cache %v, want %v", c, want)
	}
	for _, x := range []struct {
		ask, epoch record.Epoch
		end        record.Offset
	}{{0, 0, 0}, {1, 1, 10}, {2, 1, 10}, {3, 3, 20}, {4, 3, 20}, {5, 5, 40}, {6, 5, 40}, {7, 7, 99}, {8, -1, -1}, {-1, -1, -1}} {
		if e, end := c.endOf(x.ask, 99); e != x.epoch || end != x.end {
			t.Errorf("epoch %d ends as %d at %d, want %d at %d", x.ask, e, end, x.epoch, x.end)
		}
	}
	if e := c.at(19); e != 3 {
		t.Errorf("offset 19 is of epoch %d", e)
	}
	if got, want := c.cutEnd(20), (epochs{{1, 0}, {3, 10}}); !slices.Equal(got, want) {
		t.Errorf("cut to 20: %v", got)
	}
	if got, want := c.cutStart(15), (epochs{{3, 15}, {5, 20}, {7, 40}}); !slices.Equal(got, want) {
		t.Errorf("cut from 15: %v", got)
	}
	for _, x := range []struct {
		e    record.Epoch
		o    record.Offset
		want epochs
	}{
		{7, 50, c},
		{8, 50, epochs{{1, 0}, {3, 10}, {5, 20}, {7, 40}, {8, 50}}},
		{5, 40, epochs{{1, 0}, {3, 10}, {5, 20}}},          // 7 has no batches
		{7, 30, epochs{{1, 0}, {3, 10}, {5, 20}, {7, 30}}}, // written again after a truncation
		{4, 15, epochs{{1, 0}, {3, 10}, {4, 15}}},          // so are the others
	} {
		if got := c.agree(x.e, x.o); !slices.Equal(got, x.want) {
			t.Errorf("in line with epoch %d at %d: %v, want %v", x.e, x.o, got, x.want)
		}
	}
}

// TestFollowerDivergence walks a follower through R2: an epoch of its own without
// batches, a truncation, the new leader's batches.
func TestFollowerDivergence(t *testing.T) {
	memory := disk.NewMemory(0)
	s := mustOpen(t, options(memory))
	l := mustCreate(t, s, smallCf)
	follow := func(o record.Offset, e record.Epoch) error {
		b := batch(1, 1)
		record.SetBase(b, o, e)
		_, err := l.Append(b, Append{Now: 1})
		return err
	}
	for o := range record.Offset(5) {
		if err := follow(o, 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := follow(2, 1); err == nil {
		t.Fatal("a follower takes an offset twice")
	}
	if err := l.BeginEpoch(3); err != nil {
		t.Fatal(err)
	}
	if e, end := l.EndOf(2); e != 1 || end != 5 {
		t.Fatalf("epoch 2 ends as %d at %d", e, end)
	}
	if err := follow(5, 0); err == nil {
		t.Fatal("a follower takes a batch of an older epoch than the last batch")
	}
	if err := l.Truncate(5); err != nil || l.LastEpoch() != 1 || l.End() != 5 {
		t.Fatalf("cut at its end the log ends at %d in epoch %d: %v", l.End(), l.LastEpoch(), err)
	}
	if err := l.Truncate(3); err != nil {
		t.Fatal(err)
	}
	for o, e := range []record.Epoch{2, 2, 4} {
		if err := follow(3+record.Offset(o), e); err != nil {
			t.Fatal(err)
		}
	}
	check := func(l *Log, where string) {
		for o, e := range []record.Epoch{1, 1, 1, 2, 2, 4} {
			if got := l.EpochAt(record.Offset(o)); got != e {
				t.Errorf("%s: offset %d is of epoch %d, want %d", where, o, got, e)
			}
		}
	}
	check(l, "live")
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	check(mustOpen(t, options(memory.Crash(0))).Log(testTP), "after a crash")
	if err := l.Reset(100); err != nil || l.Start() != 100 || l.End() != 100 {
		t.Fatalf("reset to 100 the log is [%d, %d): %v", l.Start(), l.End(), err)
	}
	if got := l.Durable(); got != 100 {
		t.Errorf("an empty log that begins at 100 is durable up to %d: a follower would wait for ever", got)
	}
	if l := mustOpen(t, options(memory.Crash(0))).Log(testTP); l.Err() != nil || l.Start() != 100 || l.End() != 100 {
		t.Errorf("after reset and crash the empty log is [%d, %d): %v", l.Start(), l.End(), l.Err())
	}
	if err := follow(100, 4); err != nil {
		t.Fatal(err)
	}
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, options(memory.Crash(0))).Log(testTP)
	if again.Err() != nil || again.Start() != 100 || again.End() != 101 {
		t.Fatalf("after reset and crash the log is [%d, %d): %v", again.Start(), again.End(), again.Err())
	}
}

// A replica that led an epoch without writing in it goes on as a follower of somebody who
// never heard of that epoch's leader: two batches in one append.
func TestFollowerForgetsAnEmptyEpoch(t *testing.T) {
	s := mustOpen(t, options(disk.NewMemory(0)))
	l, err := s.Create(testTP, testID, smallCf)
	if err != nil {
		t.Fatal(err)
	}
	b := batch(1, 1)
	record.SetBase(b, 0, 3)
	if _, err := l.Append(b, Append{Now: 1}); err != nil {
		t.Fatal(err)
	}
	if err := l.BeginEpoch(4); err != nil {
		t.Fatal(err)
	}
	var two []byte
	for o := range record.Offset(2) {
		b := batch(1, 1)
		record.SetBase(b, 1+o, 3)
		two = append(two, b...)
	}
	if _, err := l.Append(two, Append{Now: 1}); err != nil {
		t.Fatal(err)
	}
	if l.End() != 3 || l.LastEpoch() != 3 {
		t.Errorf("the log ends at %d in epoch %d, want 3 in 3", l.End(), l.LastEpoch())
	}
}
