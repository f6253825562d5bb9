package guard

import (
	"math"
	"time"
)

// trendLength bounds the readings that a trend keeps; trendSpan bounds their age.
// peakHalfLife is the time in which the memory of a fast pace halves.
const (
	trendLength  = 64
	trendSpan    = 5 * time.Minute
	peakHalfLife = 30 * time.Second
)

// Trend is the recent past of the bytes in use.
type Trend struct {
	readings []Reading // oldest first
	peak     float64   // see Peak
}

// Add appends a reading and forgets what is too old or too much. When it is full every second reading of the older half
// goes, so that fast checks do not shorten the span that the trend covers.
func (t *Trend) Add(r Reading) {
	if n := len(t.readings); n > 0 {
		fade := math.Exp2(-r.At.Sub(t.readings[n-1].At).Seconds() / peakHalfLife.Seconds())
		latest, _ := pace([]Reading{t.readings[n-1], r})
		t.peak = max(t.peak*fade, latest, 0)
	}
	from := 0
	for from < len(t.readings) && r.At.Sub(t.readings[from].At) > trendSpan {
		from++
	}
	t.readings = append(t.readings[:0], t.readings[from:]...)
	if len(t.readings) == trendLength {
		half := trendLength / 2
		kept := t.readings[:0]
		for i, old := range t.readings {
			if i >= half || i%2 == 0 {
				kept = append(kept, old)
			}
		}
		t.readings = kept
	}
	t.readings = append(t.readings, r)
}

// Pace is the slope of the least-squares line through the readings. Units: bytes a second. False with fewer than two
// readings at different times.
func (t *Trend) Pace() (float64, bool) { return pace(t.readings) }

// Peak is the fastest pace between two readings of late; what is long ago counts less. Units: bytes a second.
// Why: writers that waited while the disk was full, or a while, come back as fast as they were.
func (t *Trend) Peak() float64 { return t.peak }

func pace(readings []Reading) (float64, bool) {
	if len(readings) < 2 {
		return 0, false
	}
	origin := readings[0]
	var sumX, sumY float64
	for _, r := range readings {
		sumX += r.At.Sub(origin.At).Seconds()
		sumY += float64(r.Used) - float64(origin.Used)
	}
	n := float64(len(readings))
	var covariance, variance float64
	for _, r := range readings {
		dx := r.At.Sub(origin.At).Seconds() - sumX/n
		dy := float64(r.Used) - float64(origin.Used) - sumY/n
		covariance += dx * dy
		variance += dx * dx
	}
	if variance == 0 {
		return 0, false
	}
	return covariance / variance, true
}

// Forecast gives the time until the bytes in use reach limit at the given pace: 0 when they have, false when they never
// will or not within ten years.
func Forecast(used, limit int64, pace float64) (time.Duration, bool) {
	if used >= limit {
		return 0, true
	}
	if pace <= 0 {
		return 0, false
	}
	const horizon = 10 * 365 * 24 * time.Hour
	seconds := float64(limit-used) / pace
	if seconds > horizon.Seconds() {
		return 0, false
	}
	return time.Duration(seconds * float64(time.Second)), true
}

// NextCheck gives the pause before the next probe: half the time that the disk needs to the threshold, never longer
// than interval, never shorter than floor. Why: a small disk fills from 90 % to 100 % between two checks of 5 s.
func NextCheck(untilThreshold time.Duration, filling bool, floor, interval time.Duration) time.Duration {
	if !filling {
		return interval
	}
	return max(min(untilThreshold/2, interval), min(floor, interval))
}
