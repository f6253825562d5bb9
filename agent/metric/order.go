package metric

import "slices"

// Arrange sorts samples as a snapshot wants them and drops repeated series, of
// which the first one given wins.
//
// It gives the number of dropped samples: more than 0 means that two collectors
// claim one series.
func Arrange(samples []Sample) ([]Sample, int) { return new(Order).Arrange(samples) }

// Order arranges sample after sample of the same sources and remembers how. Why: from
// one tick to the next nearly every metric has the same series, given in the same order,
// and to see that costs a tenth of sorting them.
type Order struct{ families map[ID]*family }

// family is one metric.
type family struct {
	given [][]Label // of each sample, in the order that they came in last time
	order []int     // where in given each sample that is kept comes from
	now   []Sample  // that come in this time
}

// Arrange is what the function of this name is. The result is new and keeps nothing of
// the slice that was given.
func (o *Order) Arrange(samples []Sample) ([]Sample, int) {
	if o.families == nil {
		o.families = map[ID]*family{}
	}
	ids := o.sort(samples)
	out := make([]Sample, 0, len(samples))
	for _, id := range ids {
		f := o.families[id]
		if !f.same() {
			f.learn()
		}
		for _, i := range f.order {
			out = append(out, f.now[i])
		}
		clear(f.now) // Why: the labels live on in the snapshot alone, and in given
		f.now = f.now[:0]
	}
	return out, len(samples) - len(out)
}

// sort gives each family its samples and the sorted names of those that have any. The
// others are forgotten.
func (o *Order) sort(samples []Sample) []ID {
	for _, s := range samples {
		f := o.families[s.ID]
		if f == nil {
			f = &family{}
			o.families[s.ID] = f
		}
		f.now = append(f.now, s)
	}
	ids := make([]ID, 0, len(o.families))
	for id, f := range o.families {
		if len(f.now) == 0 {
			delete(o.families, id)
			continue
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// same tells whether the series came in as last time.
func (f *family) same() bool {
	if len(f.now) != len(f.given) {
		return false
	}
	for i, s := range f.now {
		if !slices.Equal(s.Labels, f.given[i]) {
			return false
		}
	}
	return true
}

// learn finds the order anew.
func (f *family) learn() {
	f.given, f.order = f.given[:0], f.order[:0]
	for i, s := range f.now {
		f.given, f.order = append(f.given, s.Labels), append(f.order, i)
	}
	slices.SortStableFunc(f.order, func(a, b int) int { return Compare(f.now[a], f.now[b]) })
	f.order = slices.CompactFunc(f.order, func(a, b int) bool { return Compare(f.now[a], f.now[b]) == 0 })
}
