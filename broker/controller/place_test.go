package controller

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/metadata"
)

// TestPlace checks what every placement must have, over many shapes of clusters.
func TestPlace(t *testing.T) {
	for brokers := 1; brokers <= 9; brokers++ {
		for racks := 1; racks <= 4; racks++ {
			for fenced := 0; fenced < brokers; fenced += 2 {
				var spots []Spot
				for b := range brokers {
					spots = append(spots, Spot{metadata.BrokerID(b * 10), fmt.Sprint(b % racks), b < fenced})
				}
				for replicas := 1; replicas <= min(brokers, 5); replicas++ {
					checkPlacement(t, spots, brokers-fenced, replicas)
				}
			}
		}
	}
}

func checkPlacement(t *testing.T, spots []Spot, live, replicas int) {
	t.Helper()
	const partitions = 37
	placed := Place(spots, partitions, replicas, rand.New(rand.NewPCG(5, 0)))
	if again := Place(spots, partitions, replicas, rand.New(rand.NewPCG(5, 0))); !reflect.DeepEqual(placed, again) {
		t.Fatalf("%v: the same seed gives another placement", spots)
	}
	racks := make(map[string]bool) // those with a live broker
	of := make(map[metadata.BrokerID]Spot)
	for _, s := range spots {
		of[s.ID] = s
		if !s.Fenced {
			racks[s.Rack] = true
		}
	}
	leads := make(map[metadata.BrokerID]int)
	for p, ids := range placed {
		leads[ids[0]]++
		used := make(map[string]bool)
		inService := 0
		for i, id := range ids {
			if slices.Contains(ids[:i], id) {
				t.Fatalf("%v: partition %d is twice on broker %d: %v", spots, p, id, ids)
			}
			if !of[id].Fenced {
				inService++
				used[of[id].Rack] = true
			}
		}
		if len(ids) != replicas || of[ids[0]].Fenced || inService != min(live, replicas) {
			t.Fatalf("%v: partition %d is on %v, want %d replicas, fenced ones last resort", spots, p, ids, replicas)
		}
		if len(used) != min(len(racks), inService) {
			t.Fatalf("%v: partition %d is on %v: %d racks, want %d", spots, p, ids, len(used), min(len(racks), inService))
		}
	}
	for id, n := range leads {
		if n < partitions/live || n > partitions/live+1 {
			t.Fatalf("%v: broker %d leads %d of %d partitions on %d brokers", spots, id, n, partitions, live)
		}
	}
}

func TestPlaceSpreadsReplicasEvenly(t *testing.T) {
	var spots []Spot
	for b := range 6 {
		spots = append(spots, Spot{ID: metadata.BrokerID(b), Rack: fmt.Sprint(b % 3)})
	}
	holds := make(map[metadata.BrokerID]int)
	for _, ids := range Place(spots, 600, 3, rand.New(rand.NewPCG(1, 0))) {
		for _, id := range ids {
			holds[id]++
		}
	}
	for id, n := range holds {
		if n < 270 || n > 330 {
			t.Errorf("broker %d holds %d replicas, even would be 300", id, n)
		}
	}
}

func TestTroubleReachesEveryWishOfItsBatch(t *testing.T) {
	s := newStage()
	s.play(t, "broker 1")
	s.fail = errors.New("disk on fire")
	made := s.c.CreateTopics(t.Context(), []NewTopic{
		{Name: "a", Partitions: 1, Replicas: 1}, {Name: "b", Partitions: 0, Replicas: 1}, {Name: "c", Partitions: 1, Replicas: 1}}, false)
	var refusal *Refusal
	if !errors.Is(made[0].Err, s.fail) || !errors.As(made[1].Err, &refusal) || !errors.Is(made[2].Err, s.fail) {
		t.Errorf("errors: %v", made)
	}
	if _, _, err := s.c.ProducerIDs(t.Context()); !errors.Is(err, s.fail) {
		t.Errorf("ProducerIDs: %v", err)
	}
	if _, err := s.c.RegisterBroker(t.Context(), Registration{Broker: metadata.Broker{ID: 1}}); !errors.Is(err, s.fail) {
		t.Errorf("RegisterBroker: %v", err)
	}
	s.fail = nil
	if made := s.c.CreateTopics(t.Context(), []NewTopic{{Name: "a", Partitions: -1, Replicas: -1}}, false); made[0].Err != nil {
		t.Errorf("after the trouble: %v", made[0].Err)
	}
}

// TestGreatRequestGoesInSeveralBatches: each batch stays within its limit, each
// topic in one batch.
func TestGreatRequestGoesInSeveralBatches(t *testing.T) {
	s := newStage()
	s.play(t, "broker 1")
	before := s.img.Index()
	var ts []NewTopic
	for i := range 5 {
		ts = append(ts, NewTopic{Name: fmt.Sprintf("t%d", i), Partitions: 4000, Replicas: 1})
	}
	for _, made := range s.c.CreateTopics(t.Context(), ts, false) {
		if made.Err != nil || len(made.Topic.Partitions) != 4000 {
			t.Fatalf("created: %v", made.Err)
		}
	}
	if n := s.img.Index() - before; n != 3 || s.img.Partitions() != 20_000 {
		t.Errorf("%d batches, %d partitions; want 3 and 20000", n, s.img.Partitions())
	}
}

func TestDecisionsTakeTurns(t *testing.T) {
	s := newStage()
	s.play(t, "broker 1")
	c := New(Options{Node: 1, Settings: config.Defaults(), Now: time.Now, Seed: 2}, s)
	results := make(chan error)
	for range 8 {
		go func() {
			results <- c.CreateTopics(t.Context(), []NewTopic{{Name: "one", Partitions: 1, Replicas: 1}}, false)[0].Err
		}()
	}
	made := 0
	for range 8 {
		var r *Refusal
		if err := <-results; err == nil {
			made++
		} else if !errors.As(err, &r) || r.Code != codeTopicAlreadyExists {
			t.Errorf("a late one: %v", err)
		}
	}
	if made != 1 {
		t.Errorf("the topic was created %d times", made)
	}
}
