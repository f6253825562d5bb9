package sampler

import "time"

// early is how much of a period a timer may fire before its tick and still mean
// it: the wall clock is slewed while the timer runs on the monotonic one.
const early = 20

// nextTick gives the first multiple of the period after now that is not the last
// tick again, whose timer may have fired early. A last tick that lies further
// ahead than that is one from before the wall clock was set back, and forgotten.
func nextTick(now, last time.Time, period time.Duration) time.Time {
	next := now.Round(0).Truncate(period).Add(period)
	if next.Equal(last) {
		next = next.Add(period)
	}
	return next
}

// tickOf gives the tick that a timer which fired at now was set for.
func tickOf(now time.Time, period time.Duration) time.Time {
	return now.Round(0).Add(period / early).Truncate(period)
}

// missedIn tells how many ticks were lost in the time since the last one.
//
// The first period of a run is shorter than a full one, and a wall clock that was
// set makes one longer or shorter; neither is a lost tick until a whole period
// too much has passed.
func missedIn(elapsed, period time.Duration) int {
	n := int((elapsed+period/early)/period) - 1
	return max(n, 0)
}
