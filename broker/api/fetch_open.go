package api

import (
	"math"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
)

// open reads what the request asks for, with the help of its session.
//
// Errors: the session errors of fetch_session.go.
func (f *fetchCall) open() error {
	a, req := f.api, f.req
	wants := f.named()
	f.full = true
	if req.Version < 7 || req.SessionEpoch == sessionFinal {
		if req.SessionID != 0 {
			a.sessions.close(req.SessionID)
		}
		f.wants = wants
		return nil
	}
	byID := req.Version >= 13
	if req.SessionEpoch == sessionInitial {
		if req.SessionID != 0 {
			a.sessions.close(req.SessionID)
		}
		f.wants = wants
		f.begin(wants, byID)
		return nil
	}
	s, err := a.sessions.find(req.SessionID)
	if err != nil {
		return err
	}
	f.session, f.id, f.full = s, s.id, false
	f.wants, err = a.sessions.next(s, f, req.SessionEpoch, byID, wants, f.forgotten())
	f.rename(f.wants)
	return err
}

// begin makes a session for the partitions of the request.
func (f *fetchCall) begin(wants []wanted, byID bool) {
	a := f.api
	slots := int(a.settings().Int("max.incremental.fetch.session.cache.slots"))
	var ag *agenda
	if replicaOf(f.req) >= 0 {
		// Why: there are few followers, and one without a session names all its partitions each time.
		slots = math.MaxInt
		ag = newAgenda(a.settings().Duration("replica.lag.time.max.ms"))
	}
	f.session = a.sessions.create(wants, byID, slots, ag)
	if f.session == nil {
		return
	}
	f.id = f.session.id
	if ag != nil {
		f.wants = nil
		f.more()
	}
}

// more takes what has moved in a follower's session.
func (f *fetchCall) more() {
	more := f.session.more(f, f.api.now())
	f.rename(more)
	f.wants = append(f.wants, more...)
}

// named gives the partitions that the request itself names.
func (f *fetchCall) named() []wanted {
	n := 0
	for i := range f.req.Topics {
		n += len(f.req.Topics[i].Partitions)
	}
	out := make([]wanted, 0, n)
	for i := range f.req.Topics {
		t := &f.req.Topics[i]
		name, known := f.nameOf(t.Topic, t.TopicID)
		for j := range t.Partitions {
			p := &t.Partitions[j]
			w := wanted{
				name: topic.Partition{Topic: name, Partition: p.Partition}, unknown: !known,
				epoch: record.Epoch(p.CurrentLeaderEpoch), offset: record.Offset(p.FetchOffset),
				lastFetched: record.Epoch(p.LastFetchedEpoch), max: int(max(0, p.PartitionMaxBytes)),
				logStart: record.Offset(p.LogStartOffset),
			}
			if f.req.Version >= 13 {
				w.id = t.TopicID
			}
			if f.req.Version < 9 {
				w.epoch = -1
			}
			if f.req.Version < 12 {
				w.lastFetched = -1
			}
			out = append(out, w)
		}
	}
	return out
}

// nameOf gives the name of a topic that the request may name by ID.
func (f *fetchCall) nameOf(name string, id topic.ID) (string, bool) {
	if f.req.Version < 13 {
		return name, true
	}
	if t := f.api.image().TopicByID(id); t != nil {
		return t.Name, true
	}
	return "", false
}

// rename looks the IDs of a session up again: topics come and go while it lives.
func (f *fetchCall) rename(wants []wanted) {
	for i := range wants {
		if w := &wants[i]; !w.id.IsZero() {
			var known bool
			w.name.Topic, known = f.nameOf("", w.id)
			w.unknown = !known
		}
	}
}

func (f *fetchCall) forgotten() []trackedKey {
	var out []trackedKey
	for _, t := range f.req.ForgottenTopics {
		for _, p := range t.Partitions {
			k := trackedKey{topic: t.Topic, partition: p}
			if f.req.Version >= 13 {
				k = trackedKey{id: t.TopicID, partition: p}
			}
			out = append(out, k)
		}
	}
	return out
}
