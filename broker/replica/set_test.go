package replica

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/topic"
)

var alone = []metadata.BrokerID{1}

func TestDeletedTopic(t *testing.T) {
	s, p, log := led(t)
	log.lazy = true
	var a answers
	p.Acked(appendOne(t, p, -1), -1, time.Minute, a.to("all"))
	if err := s.apply(nil, false); err != nil {
		t.Fatal(err)
	}
	a.want(t, "all: "+ErrUnknownPartition.Error())
	if _, err := s.Partition(orders); !errors.Is(err, ErrUnknownPartition) {
		t.Errorf("deleted partition gives %v", err)
	}
	if err := p.CheckLeader(-1); !errors.Is(err, ErrUnknownPartition) {
		t.Errorf("an old pointer gives %v", err)
	}
	if got := s.store.(*fakeStore).removed; !slices.Equal(got, []topic.Partition{orders}) {
		t.Errorf("removed %v", got)
	}
	if got := s.counters.(*fakeCounters).dropped; !slices.Equal(got, []string{"orders"}) {
		t.Errorf("dropped numbers of %v", got)
	}
}

func TestTopicMadeAgain(t *testing.T) {
	s, p, _ := led(t)
	appendOne(t, p, 1)
	if err := s.apply(map[topic.Partition]wish{orders: placed(idB, 1, 0, alone, nil)}, false); err != nil {
		t.Fatal(err)
	}
	again, err := s.Partition(orders)
	if err != nil {
		t.Fatal(err)
	}
	if again == p || again.TopicID() != idB || again.End() != 0 {
		t.Errorf("the new topic has ID %v and end %d", again.TopicID(), again.End())
	}
	if got := s.counters.(*fakeCounters).dropped; !slices.Equal(got, []string{"orders"}) {
		t.Errorf("dropped numbers of %v", got)
	}
}

func TestFailedDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p, log := led(t)
		log.lazy = true
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		var a answers
		p.Acked(appendOne(t, p, -1), -1, time.Minute, a.to("all"))
		s.DirFailed("another", nil)
		synctest.Wait()
		a.want(t)
		s.DirFailed("a", nil)
		synctest.Wait()
		a.want(t, "all: "+storage.ErrOffline.Error())
		if _, err := s.Partition(orders); !errors.Is(err, storage.ErrOffline) {
			t.Errorf("offline partition gives %v", err)
		}
		// The next image does not bring it back.
		if err := s.apply(map[topic.Partition]wish{orders: placed(idA, 1, 1, alone, nil)}, false); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Partition(orders); !errors.Is(err, storage.ErrOffline) {
			t.Errorf("offline partition gives %v", err)
		}
		cancel()
		<-done
	})
}

// A partition whose log lies in a directory that is down at the start must not be made
// anew, empty, in another one: not with the first image nor with a later one.
func TestDirectoryDownAtStart(t *testing.T) {
	s, store, _ := newFakeSet(t)
	store.failed = []string{"b"}
	wishes := map[topic.Partition]wish{orders: placed(idA, 1, 0, alone, nil)}
	for i := range 2 {
		if err := s.apply(wishes, i == 0); errors.Is(err, storage.ErrOffline) != (i == 0) {
			t.Errorf("apply %d gives %v, want it said once", i, err)
		}
		if _, err := s.Partition(orders); !errors.Is(err, storage.ErrOffline) {
			t.Errorf("partition gives %v", err)
		}
	}
	fresh := topic.Partition{Topic: "fresh"}
	wishes[fresh] = placed(idB, 1, 0, alone, nil)
	if err := s.apply(wishes, false); err != nil {
		t.Errorf("apply gives %v", err)
	}
	if _, err := s.Partition(fresh); err != nil {
		t.Errorf("a new topic finds no place: %v", err)
	}
	if len(store.held) != 1 {
		t.Errorf("store holds %d logs, want the new topic's only", len(store.held))
	}
}

func TestOpenIsTriedAgain(t *testing.T) {
	s, store, _ := newFakeSet(t)
	store.refuse = errors.New("disk says no")
	wishes := map[topic.Partition]wish{orders: placed(idA, 1, 0, alone, nil)}
	if err := s.apply(wishes, false); !errors.Is(err, store.refuse) {
		t.Errorf("apply gives %v", err)
	}
	if _, err := s.Partition(orders); !errors.Is(err, storage.ErrOffline) {
		t.Errorf("partition gives %v", err)
	}
	store.refuse = nil
	if err := s.apply(wishes, false); err != nil {
		t.Error(err)
	}
	if _, err := s.Partition(orders); err != nil {
		t.Errorf("partition gives %v", err)
	}
}

func TestStrays(t *testing.T) {
	stray := topic.Partition{Topic: "gone"}
	wishes := map[topic.Partition]wish{orders: placed(idA, 1, 0, alone, nil)}
	t.Run("of a topic deleted meanwhile", func(t *testing.T) {
		s, store, _ := newFakeSet(t)
		store.held[orders], store.held[stray] = &fakeLog{id: idA}, &fakeLog{id: idB}
		if err := s.apply(wishes, true); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(store.removed, []topic.Partition{stray}) {
			t.Errorf("removed %v", store.removed)
		}
	})
	t.Run("all of them: the metadata are strange", func(t *testing.T) {
		s, store, _ := newFakeSet(t)
		store.held[stray] = &fakeLog{id: idB}
		if err := s.apply(wishes, true); err != nil {
			t.Fatal(err)
		}
		if len(store.removed) != 0 {
			t.Errorf("removed %v", store.removed)
		}
	})
}

func TestSettingsFollow(t *testing.T) {
	s, p, log := led(t)
	same := placed(idA, 1, 0, alone, nil)
	same.set = p.settings.Load()
	if err := s.apply(map[topic.Partition]wish{orders: same}, false); err != nil {
		t.Fatal(err)
	}
	if len(log.config) != 0 {
		t.Errorf("log was reconfigured %d times by an image that changes no setting", len(log.config))
	}
	over := map[string]string{"retention.ms": "1000", "message.timestamp.type": "LogAppendTime", "cleanup.policy": "compact,delete"}
	if err := s.apply(map[topic.Partition]wish{orders: placed(idA, 1, 0, alone, over)}, false); err != nil {
		t.Fatal(err)
	}
	if len(log.config) != 1 || log.config[0].RetentionAge != time.Second || !log.config[0].Compact || !log.config[0].Delete {
		t.Errorf("log was reconfigured to %+v", log.config)
	}
	now := time.UnixMilli(4711)
	if a, err := p.Append(nil, 1, now); err != nil || a.AppendTime != 4711 {
		t.Errorf("append gives time %d, %v; want log append time", a.AppendTime, err)
	}
}

func TestLogConfig(t *testing.T) {
	v := config.TopicValues(config.Defaults(), nil, nil, map[string]string{"retention.ms": "-1"}, 1)
	if c := LogConfig(v, true); c.FlushMessages != 1 || c.RetentionAge >= 0 || !c.Internal || c.FlushEvery != 0 {
		t.Errorf("one replica gives %+v, want each batch flushed, no age limit", c)
	}
	v = config.TopicValues(config.Defaults(), nil, nil, map[string]string{"min.insync.replicas": "2"}, 3)
	if c := LogConfig(v, false); c.FlushMessages != 0 || !c.Delete || c.Compact || c.SegmentBytes <= 0 {
		t.Errorf("three replicas, two in sync, give %+v, want flushing left to the system", c)
	}
	if n := unlessEndless(int64(math.MaxInt64)); n != 0 {
		t.Errorf("endless is %d", n)
	}
}
