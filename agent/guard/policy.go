package guard

import (
	"fmt"
	"time"
)

// Policy is what the guard does at the threshold.
type Policy string

// The policies of the instance.
const (
	Delete Policy = "delete" // delete the earliest data; produce goes on
	Reject Policy = "reject" // refuse produce; nothing is deleted
)

// ParsePolicy reads a policy's name.
func ParsePolicy(name string) (Policy, error) {
	switch p := Policy(name); p {
	case Delete, Reject:
		return p, nil
	}
	return "", fmt.Errorf("cannot use capacity policy %q: must be %q or %q", name, Delete, Reject)
}

// fullPercent is where produce is refused under Delete too, once there is nothing left to delete or deleting fails.
// Why: without it the disk runs to 0 bytes, where produce fails anyway, but offset commits and metadata with it.
const fullPercent = 99

// Limits are the figures that the machine decides by.
type Limits struct {
	Policy     Policy
	Threshold  float64       // percent; at or above it the policy acts
	Hysteresis float64       // points below Threshold where a refusal ends
	Pace       time.Duration // how long a deletion whose space has not come back holds up the next one
}

// Reading is one look at the disk.
type Reading struct {
	At          time.Time
	Used, Total int64 // bytes
	Percent     float64
}

// Decision is what should be so after a reading.
type Decision struct {
	Refuse bool
	Reason string // the text for clients; empty when produce is accepted
	Delete bool   // delete once more, now
}

// Machine is the policy as a state machine: no clock, no disk, no goroutine. The zero Machine is not usable.
type Machine struct {
	limits   Limits
	refusing bool
	last     Reading
	known    bool // last holds a reading, and the latest probe succeeded

	deleting  bool      // a deletion was ordered and has not reported
	before    int64     // bytes used when it was ordered
	freed     int64     // what it said it freed
	notBefore time.Time // no further deletion before, unless the space has come back
	exhausted bool      // the last deletion freed nothing: nothing is left
	failed    bool      // … or it could not
}

// NewMachine makes a machine that has seen nothing yet.
func NewMachine(l Limits) *Machine { return &Machine{limits: l} }

// Restore sets whether produce was refused when the process last ran.
func (m *Machine) Restore(refusing bool) { m.refusing = refusing }

// Observe takes a reading.
func (m *Machine) Observe(r Reading) Decision {
	m.last, m.known = r, true
	if !m.deleting && m.freed > 0 && m.before-r.Used >= m.freed/2 {
		m.notBefore = time.Time{} // the space of the last deletion has come back
	}
	return m.decide(r.At)
}

// Unknown notes that the disk could not be read: a refusal stays, a deletion is never ordered blindly.
func (m *Machine) Unknown() Decision {
	m.known = false
	return Decision{Refuse: m.refusing, Reason: m.reason()}
}

// Configure puts other limits in force and decides again by the last reading.
func (m *Machine) Configure(l Limits, at time.Time) Decision {
	if l.Policy != m.limits.Policy {
		m.exhausted, m.failed = false, false
	}
	m.limits = l
	if !m.known {
		return m.Unknown()
	}
	return m.decide(at)
}

// Acted reports the end of an ordered deletion; failed tells that it could not delete all it wanted.
func (m *Machine) Acted(freed int64, failed bool, at time.Time) {
	m.deleting, m.freed = false, freed
	m.exhausted, m.failed = freed <= 0 && !failed, freed <= 0 && failed
	m.notBefore = at.Add(m.limits.Pace)
}

// Returned reports that the space of the last deletion was seen to have come back.
func (m *Machine) Returned() { m.notBefore = time.Time{} }

// Refusing tells whether produce is refused; Exhausted whether the last deletion found nothing.
func (m *Machine) Refusing() bool  { return m.refusing }
func (m *Machine) Exhausted() bool { return m.exhausted }

// Idle tells whether the last deletion freed nothing, so that looking often serves no one.
func (m *Machine) Idle() bool { return m.exhausted || m.failed }

// Above tells whether the last reading was at or above the threshold.
func (m *Machine) Above() bool { return m.last.Percent >= m.limits.Threshold }

func (m *Machine) decide(at time.Time) Decision {
	above := m.Above()
	if !above {
		m.exhausted, m.failed = false, false
	}
	switch m.limits.Policy {
	case Reject:
		if above {
			m.refusing = true
		} else if m.last.Percent < m.limits.Threshold-m.limits.Hysteresis {
			m.refusing = false
		}
		return Decision{Refuse: m.refusing, Reason: m.reason()}
	case Delete:
		m.refusing = (m.exhausted || m.failed) && m.last.Percent >= fullPercent
		d := Decision{Refuse: m.refusing, Reason: m.reason(), Delete: above && m.mayDelete(at)}
		if d.Delete {
			m.deleting, m.before = true, m.last.Used
		}
		return d
	}
	panic(fmt.Sprintf("BUG: capacity policy %q", m.limits.Policy))
}

// mayDelete spaces deletions: one at a time, and the next one only when the space of the one before was seen to have
// come back or Pace has passed. Why: a file that a reader holds open gives its space back late, and a guard that does not
// wait for it deletes everything in the meantime.
func (m *Machine) mayDelete(at time.Time) bool { return !m.deleting && !at.Before(m.notBefore) }

// reason is what a refused client reads.
func (m *Machine) reason() string {
	if !m.refusing {
		return ""
	}
	switch {
	case m.limits.Policy == Delete && m.failed:
		return fmt.Sprintf("disk usage is at or above %d %% and old data cannot be deleted", fullPercent)
	case m.limits.Policy == Delete:
		return fmt.Sprintf("disk usage is at or above %d %% and nothing is left to delete", fullPercent)
	case m.last.Total == 0:
		return fmt.Sprintf("disk usage was at or above the capacity threshold of %g %% and cannot be read; produce is refused until it is below %g %%",
			m.limits.Threshold, m.limits.Threshold-m.limits.Hysteresis)
	}
	return fmt.Sprintf("disk usage has reached the capacity threshold of %g %%; produce is refused until it is below %g %%",
		m.limits.Threshold, m.limits.Threshold-m.limits.Hysteresis)
}
