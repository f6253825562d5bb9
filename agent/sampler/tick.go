package sampler

import "time"

// early is how much of a period a timer may fire before its tick and still mean
// it: the wall clock is slewed while the timer runs on the monotonic one.
const early = 20

// nextTick gives the first multiple of the period that lies well after now.
func nextTick(now time.Time, period time.Duration) time.Time {
	return tickOf(now, period).Add(period)
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
