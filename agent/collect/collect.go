// Package collect turns what can be read into samples of the catalogue: one
// source a file. What the broker counts comes from its statistics, what the
// cluster holds from a pass over the Kafka protocol, what the machine does from
// its kernel.
//
// It keeps no history but the reading before, from which it reckons rates.
//
// Invariant: a reading that is missing gives no sample, never 0. A sum of which
// one part is missing is missing too. No rate is negative, and none follows from
// a counter that began anew.
package collect

import (
	"strconv"
	"time"

	"github.com/belfry-mq/belfry/agent/metric"
)

// Hidden tells whether a topic or group is left out of the emitted series unless
// internal names are asked for.
// Source: the documented metric set; the reference service shows no such names.
func Hidden(name string) bool { return name != "" && (name[0] == '_' || name[0] == '#') }

// rate gives the growth of a counter a second; false when the counter began anew
// in between or no time passed.
func rate(before, now uint64, elapsed time.Duration) (float64, bool) {
	if now < before || elapsed <= 0 {
		return 0, false
	}
	return float64(now-before) / elapsed.Seconds(), true
}

// grown gives how much a counter grew when one that began anew is known to have
// begun at 0.
func grown(before, now uint64) uint64 {
	if now < before {
		return now
	}
	return now - before
}

// sheet collects samples.
type sheet struct{ samples []metric.Sample }

// newSheet has room for n samples.
func newSheet(n int) sheet { return sheet{make([]metric.Sample, 0, n)} }

func (s *sheet) add(id metric.ID, value float64, labels []metric.Label) {
	s.samples = append(s.samples, metric.Sample{ID: id, Labels: labels, Value: value})
}

// addIf adds what could be reckoned.
func (s *sheet) addIf(ok bool, id metric.ID, value float64, labels []metric.Label) {
	if ok {
		s.add(id, value, labels)
	}
}

func brokerLabels(id string) []metric.Label { return metric.Labels(metric.LabelBroker, id) }

func number(online bool) float64 {
	if online {
		return 1
	}
	return 0
}

func decimal(n int32) string { return strconv.Itoa(int(n)) }
