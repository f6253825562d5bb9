package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Replicas is a list of replicas of one topic, as leader.replication.throttled.replicas has it.
type Replicas struct {
	All bool
	by  map[int32][]int32 // brokers by partition
}

// ParseReplicas reads "*" or "PARTITION:BROKER,…"; the empty text is the empty list.
//
// Errors: the entry that is neither.
func ParseReplicas(text string) (r Replicas, err error) {
	entries := split(text)
	if len(entries) == 1 && entries[0] == "*" {
		return Replicas{All: true}, nil
	}
	for _, entry := range entries {
		partition, broker, _ := strings.Cut(entry, ":")
		p, errP := strconv.ParseUint(partition, 10, 31)
		b, errB := strconv.ParseUint(broker, 10, 31)
		if errP != nil || errB != nil {
			return Replicas{}, fmt.Errorf("cannot read replica %q: want PARTITION:BROKER", entry)
		}
		if r.by == nil {
			r.by = make(map[int32][]int32)
		}
		r.by[int32(p)] = append(r.by[int32(p)], int32(b))
	}
	return r, nil
}

// Has tells whether a broker's replica of a partition is in the list.
func (r Replicas) Has(partition, broker int32) bool {
	return r.All || slices.Contains(r.by[partition], broker)
}

// Replicas gives a list of replicas.
func (v *Values) Replicas(name string) Replicas {
	r, err := ParseReplicas(v.String(name))
	checked(name, err)
	return r
}
