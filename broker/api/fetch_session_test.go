package api

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/replica"
	"github.com/belfry-mq/belfry/broker/topic"
)

func want(name string, partition int32, offset record.Offset) wanted {
	return wanted{name: topic.Partition{Topic: name, Partition: partition}, offset: offset}
}

func at(w wanted, high record.Offset) result {
	return result{want: w, got: replica.Fetched{HighWatermark: high, LastStable: high}}
}

func codeIs(t *testing.T, err error, want *kerr.Error) {
	t.Helper()
	if got := codeOf(err); got != want.Code {
		t.Errorf("got %v (code %d), want %s", err, got, want.Message)
	}
}

func TestSessionTellsOnlyWhatChanged(t *testing.T) {
	c := newFetchSessions(time.Now)
	s := c.create([]wanted{want("a", 0, 5), want("a", 1, 5)}, false, 10, nil)
	if s == nil {
		t.Fatal("no session")
	}
	if got := s.settle([]result{at(want("a", 0, 5), 5), at(want("a", 1, 5), 5)}, true); len(got) != 2 {
		t.Fatalf("first answer has %d partitions, want 2", len(got))
	}
	wants, err := c.next(s, nil, 1, false, nil, nil)
	if err != nil || len(wants) != 2 {
		t.Fatalf("next gives %v, %v; want both partitions", wants, err)
	}
	if got := s.settle([]result{at(wants[0], 5), at(wants[1], 6)}, false); len(got) != 1 || got[0].want.name.Partition != 1 {
		t.Fatalf("second answer is %+v, want partition 1 alone", got)
	}
	wants, err = c.next(s, nil, 2, false, []wanted{want("a", 1, 6), want("b", 0, 0)}, []trackedKey{{topic: "a", partition: 0}})
	if err != nil || len(wants) != 2 || wants[0].offset != 6 || wants[1].name.Topic != "b" {
		t.Fatalf("next gives %v, %v; want a-1 at 6 and b-0", wants, err)
	}
	failed := at(wants[0], -1)
	failed.code = kerr.NotLeaderForPartition.Code
	if got := s.settle([]result{failed, at(wants[1], 0)}, false); len(got) != 2 {
		t.Fatalf("third answer is %+v, want the error and the new partition", got)
	}
	if got := s.settle([]result{at(wants[0], -1), at(wants[1], 0)}, false); len(got) != 1 {
		t.Fatalf("fourth answer is %+v, want the partition that recovered", got)
	}
}

func TestSessionErrors(t *testing.T) {
	now := time.Unix(1000, 0)
	c := newFetchSessions(func() time.Time { return now })
	_, err := c.find(1)
	codeIs(t, err, kerr.FetchSessionIDNotFound)
	s := c.create([]wanted{want("a", 0, 0)}, false, 1, nil)
	_, err = c.next(s, nil, 5, false, nil, nil)
	codeIs(t, err, kerr.InvalidFetchSessionEpoch)
	_, err = c.next(s, nil, 1, true, nil, nil)
	codeIs(t, err, kerr.FetchSessionTopicIDError)
	_, err = c.next(s, nil, 1, false, make([]wanted, maxSessionPartitions), nil)
	codeIs(t, err, kerr.FetchSessionIDNotFound)
	if c.create([]wanted{want("b", 0, 0)}, false, 1, nil) != nil {
		t.Error("a session in use made room for another")
	}
	now = now.Add(sessionIdle)
	if c.create([]wanted{want("b", 0, 0)}, false, 1, nil) == nil {
		t.Error("an idle session made no room")
	}
	_, err = c.next(s, nil, 1, false, nil, nil)
	codeIs(t, err, kerr.FetchSessionIDNotFound)
	if c.mu.partitions != 1 {
		t.Errorf("%d partitions are counted, want 1", c.mu.partitions)
	}
	if c.create(nil, false, 0, nil) != nil {
		t.Error("a cache of no slots gave a session")
	}
}
