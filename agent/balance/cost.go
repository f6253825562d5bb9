package balance

import (
	"maps"
	"slices"
	"time"
)

// Copied gives the bytes that the move copies over the network.
func (m Move) Copied() int64 { return int64(len(m.Adds())) * m.Bytes }

// Traffic is what one broker has to send and to take, in bytes.
type Traffic struct {
	Broker  int32
	Out, In int64 // as leader, as follower
}

// Costs gives the bytes of each broker that takes part, by its ID. leader tells who leads a
// partition now: that broker sends every copy.
func Costs(ms []Move, leader func(Move) int32) []Traffic {
	sum := map[int32]Traffic{}
	add := func(broker int32, out, in int64) {
		t := sum[broker]
		sum[broker] = Traffic{broker, t.Out + out, t.In + in}
	}
	for _, m := range ms {
		for _, b := range m.Adds() {
			add(b, 0, m.Bytes)
			add(leader(m), m.Bytes, 0)
		}
	}
	ts := make([]Traffic, 0, len(sum))
	for _, b := range slices.Sorted(maps.Keys(sum)) {
		ts = append(ts, sum[b])
	}
	return ts
}

// Rate is the replication of one broker now, in bytes a second.
type Rate struct{ Out, In float64 }

// Bandwidth gives the limit, in bytes a second for each broker and role, with which the
// copying ends in so long a time, normal replication going on as now: the most that any
// broker needs in either role.
func Bandwidth(ts []Traffic, now map[int32]Rate, in time.Duration) float64 {
	most := 0.0
	for _, t := range ts {
		r := now[t.Broker]
		most = max(most, float64(t.Out)/in.Seconds()+r.Out, float64(t.In)/in.Seconds()+r.In)
	}
	return most
}

// Duration gives how long the copying takes under a limit, in bytes a second for each broker and
// role; ok is false where normal replication leaves no room.
func Duration(ts []Traffic, now map[int32]Rate, limit float64) (d time.Duration, ok bool) {
	for _, t := range ts {
		r := now[t.Broker]
		for _, role := range []struct {
			bytes int64
			rate  float64
		}{{t.Out, r.Out}, {t.In, r.In}} {
			if role.bytes == 0 {
				continue
			}
			if role.rate >= limit {
				return 0, false
			}
			d = max(d, time.Duration(float64(role.bytes)/(limit-role.rate)*float64(time.Second)))
		}
	}
	return d, true
}
