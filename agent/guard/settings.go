package guard

import (
	"fmt"
	"time"
)

// Settings of a guard. The zero value of a field means its default.
type Settings struct {
	Policy     Policy        // default Reject; may change at run time
	Threshold  float64       // percent of the disk in use at which the policy acts; default 95, above 0, at most 100; may change at run time
	Hysteresis float64       // points below Threshold where a refusal ends; default 5, below Threshold
	Share      float64       // share of the broker's message data that one deletion frees; default 0.10, above 0, at most 1
	Interval   time.Duration // longest pause between two looks at the disk; default and limit 5 s
	Timeout    time.Duration // how long a look may take before it counts as failed; default 2 s
	Hold       time.Duration // how long the series belfry_guard_active shows an act that is over; default 2 min: two periods of the sampler, so that a tick sees it
}

// The defaults and limits of Settings.
const (
	defaultThreshold  = 95
	defaultHysteresis = 5
	defaultShare      = 0.10
	maxInterval       = 5 * time.Second
	defaultTimeout    = 2 * time.Second
	defaultHold       = 2 * time.Minute
)

// floorInterval is the shortest pause between two looks. A look that takes long stretches it (see probeShare).
const floorInterval = 20 * time.Millisecond

// probeShare bounds the share of time spent looking: a look that took 50 ms is followed by a pause of at least 500 ms.
// Why: with a logical volume size a look may mean walking the data directories.
const probeShare = 10

func (s Settings) filled() Settings {
	if s.Policy == "" {
		s.Policy = Reject
	}
	if s.Threshold == 0 {
		s.Threshold = defaultThreshold
	}
	if s.Hysteresis == 0 {
		s.Hysteresis = defaultHysteresis
	}
	if s.Share == 0 {
		s.Share = defaultShare
	}
	if s.Interval == 0 {
		s.Interval = maxInterval
	}
	if s.Timeout == 0 {
		s.Timeout = defaultTimeout
	}
	if s.Hold == 0 {
		s.Hold = defaultHold
	}
	return s
}

func (s Settings) check() error {
	if _, err := ParsePolicy(string(s.Policy)); err != nil {
		return err
	}
	switch {
	case !(s.Threshold > 0 && s.Threshold <= 100):
		return fmt.Errorf("cannot use capacity threshold %g %%: must be above 0 and at most 100", s.Threshold)
	case !(s.Hysteresis > 0 && s.Hysteresis < s.Threshold):
		return fmt.Errorf("cannot use capacity hysteresis %g points: must be above 0 and below the threshold of %g %%", s.Hysteresis, s.Threshold)
	case !(s.Share > 0 && s.Share <= 1):
		return fmt.Errorf("cannot use deletion share %g: must be above 0 and at most 1", s.Share)
	case s.Interval < 0 || s.Interval > maxInterval:
		return fmt.Errorf("cannot use capacity check interval %v: must be above 0 and at most %v", s.Interval, maxInterval)
	case s.Timeout < 0 || s.Hold < 0:
		return fmt.Errorf("cannot use negative durations: timeout %v, hold %v", s.Timeout, s.Hold)
	}
	return nil
}

func (s Settings) limits() Limits {
	return Limits{Policy: s.Policy, Threshold: s.Threshold, Hysteresis: s.Hysteresis, Pace: s.Interval}
}
