package group

import (
	"container/heap"
	"time"
)

// alarm is one thing that happens when nothing else happened before. The zero alarm is off.
type alarm struct {
	due  time.Time
	fire func()
	at   int // index in alarms plus one; 0: off
}

// alarms is the time of one shard: what is due, the earliest first. It has no clock.
type alarms []*alarm

func (a alarms) Len() int           { return len(a) }
func (a alarms) Less(i, j int) bool { return a[i].due.Before(a[j].due) }
func (a alarms) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].at, a[j].at = i+1, j+1
}

func (a *alarms) Push(x any) {
	al := x.(*alarm)
	*a = append(*a, al)
	al.at = len(*a)
}

func (a *alarms) Pop() any {
	last := len(*a) - 1
	al := (*a)[last]
	(*a)[last] = nil
	*a = (*a)[:last]
	al.at = 0
	return al
}

// set puts an alarm on or moves it.
func (a *alarms) set(al *alarm, due time.Time, fire func()) {
	al.due, al.fire = due, fire
	if al.at > 0 {
		heap.Fix(a, al.at-1)
		return
	}
	heap.Push(a, al)
}

// off takes an alarm back.
func (a *alarms) off(al *alarm) {
	if al.at > 0 {
		heap.Remove(a, al.at-1)
	}
}

// ring takes one alarm that is due, nil if there is none.
func (a *alarms) ring(now time.Time) func() {
	if len(*a) == 0 || (*a)[0].due.After(now) {
		return nil
	}
	return heap.Pop(a).(*alarm).fire
}

// next tells when to look again; false: never.
func (a alarms) next() (time.Time, bool) {
	if len(a) == 0 {
		return time.Time{}, false
	}
	return a[0].due, true
}
