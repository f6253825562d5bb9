package chaos

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path/filepath"

	"github.com/belfry-mq/belfry/broker/record"
)

// alike compares the replicas of an internal topic's partitions: byte by byte, or, as each node compacts when it likes,
// what they hold in the end: the last value of each key.
func (w *world) alike(topic string) {
	w.t.Helper()
	folders, err := filepath.Glob(filepath.Join(w.node(1).Dir, "data", "*", "partition.metadata"))
	if err != nil {
		w.t.Fatal(err)
	}
	compared, bytewise := 0, 0
	for p := range folders { // no topic has more partitions than there are folders
		if _, _, err := segmentsOf(w.node(1).Dir, topic, p); err != nil {
			break
		}
		compared++
		w.eventually(fmt.Sprintf("replicas of %s-%d hold the same", topic, p), func() string {
			if w.differ(topic, p) == "" {
				bytewise++
				return ""
			}
			return w.differInContent(topic, p)
		})
	}
	if compared == 0 {
		w.t.Errorf("node 1 has no partition of %s", topic)
	}
	line := fmt.Sprintf("%s: %d partitions hold the same on all nodes, %d of them byte by byte", topic, compared, bytewise)
	w.report.lines = append(w.report.lines, line)
	w.say("%s", line)
}

// differInContent says which key's last value is another one; "" = none.
func (w *world) differInContent(topic string, partition int) string {
	var first map[string]string
	for id := 1; id <= len(w.Nodes); id++ {
		log, err := logOf(w.node(id).Dir, topic, partition)
		if err != nil {
			return err.Error()
		}
		live, err := contentOf(log)
		if err != nil {
			return fmt.Sprintf("node %d: %v", id, err)
		}
		if id == 1 {
			first = live
			continue
		}
		for key := range maps.Keys(first) {
			if live[key] != first[key] {
				return fmt.Sprintf("nodes 1 and %d: key %q: %q and %q", id, key, first[key], live[key])
			}
		}
		if len(live) != len(first) {
			return fmt.Sprintf("nodes 1 and %d hold %d and %d keys", id, len(first), len(live))
		}
	}
	return ""
}

// contentOf gives the last value of each key that has one. What is written in transactions counts when these are
// committed.
func contentOf(log []byte) (live map[string]string, err error) {
	live = map[string]string{}
	open := map[int64]map[string][]byte{} // by producer
	put := func(key string, value []byte) {
		if value == nil {
			delete(live, key)
		} else {
			live[key] = string(value)
		}
	}
	for len(log) > 0 {
		h, err := record.Verify(log)
		if errors.Is(err, record.ErrCorrupt) || err == nil && h.Size() > len(log) {
			return nil, fmt.Errorf("the log is cut or damaged at offset %d: %w", h.Base, err)
		}
		if err != nil {
			return nil, err
		}
		batch := log[:h.Size()]
		log = log[h.Size():]
		if h.Control() {
			m, ok, err := record.ReadMarker(batch)
			if err != nil {
				return nil, err
			}
			if ok && m.Commit {
				for key, value := range open[h.ProducerID] {
					put(key, value)
				}
			}
			delete(open, h.ProducerID)
			continue
		}
		err = record.Each(batch, func(r record.Record) error {
			if !h.Transactional() {
				put(string(r.Key), bytes.Clone(r.Value))
				return nil
			}
			if open[h.ProducerID] == nil {
				open[h.ProducerID] = map[string][]byte{}
			}
			open[h.ProducerID][string(r.Key)] = bytes.Clone(r.Value)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return live, nil
}
