package ledger

import (
	"bytes"
	"slices"
	"testing"
)

// play is a topic of one partition under test.
type play struct {
	l *Ledger
	r *Reading
}

func begin(o Options) *play {
	o.Topic, o.Partitions = "t", 1
	l := New(o)
	return &play{l, l.Read("reader")}
}

func (p *play) ack(offset int64, name string, i int)  { p.l.Note(0, offset, name, i) }
func (p *play) read(offset int64, name string, i int) { p.r.Take(0, offset, p.l.Value(name, i)) }

// by reads as a client that tells the producer's epoch.
func (p *play) by(offset int64, name string, i int, epoch int16) {
	p.r.take(0, offset, p.l.Value(name, i), stamp{7, epoch})
}

// TestFindings: each kind of harm is found, once, and what is no harm is not.
func TestFindings(t *testing.T) {
	for _, x := range []struct {
		name string
		o    Options
		do   func(p *play)
		want []Kind
	}{
		{"all is well", Options{}, func(p *play) {
			p.ack(0, "a", 0)
			p.ack(2, "a", 2)
			p.read(0, "a", 0)
			p.read(1, "b", 0) // not acknowledged, and there
			p.read(2, "a", 2)
			p.r.End([]int64{3})
		}, nil},
		{"lost at the end", Options{}, func(p *play) {
			p.ack(0, "a", 0)
			p.ack(1, "a", 1)
			p.read(0, "a", 0)
			p.r.End([]int64{1})
		}, []Kind{Lost}},
		{"lost in the middle", Options{}, func(p *play) {
			p.ack(1, "a", 1)
			p.read(0, "a", 0)
			p.read(2, "a", 2)
		}, []Kind{Lost}},
		{"lost before the end that is not read", Options{}, func(p *play) {
			p.ack(0, "a", 0)
			p.r.End([]int64{1})
		}, []Kind{Lost}},
		{"another one where one was acknowledged", Options{}, func(p *play) {
			p.ack(0, "a", 0)
			p.read(0, "b", 0)
		}, []Kind{Conflict}},
		{"two acknowledged at one offset", Options{}, func(p *play) {
			p.ack(0, "a", 0)
			p.ack(0, "a", 1)
		}, []Kind{Conflict}},
		{"what another reader was given has changed", Options{}, func(p *play) {
			p.read(0, "a", 0)
			p.l.Read("another").Take(0, 0, p.l.Value("a", 1))
		}, []Kind{Conflict}},
		{"what another reader was given has gone", Options{}, func(p *play) {
			p.read(0, "a", 0)
			p.l.Read("another").End([]int64{0})
		}, []Kind{Lost}},
		{"twice", Options{}, func(p *play) {
			p.read(0, "a", 0)
			p.read(1, "a", 0)
		}, []Kind{Duplicate}},
		{"twice by one that renews its epoch", Options{}, func(p *play) {
			p.l.Promise("a", Renewed)
			p.by(0, "a", 0, 0)
			p.by(1, "a", 1, 0)
			p.by(2, "a", 0, 1)
			p.by(3, "a", 1, 1)
			p.by(4, "a", 2, 1)
			p.r.End([]int64{5})
			if n := p.l.Renewed(); n != 2 {
				p.l.Find(Damaged, "%d renewed", n)
			}
		}, nil},
		{"twice in one epoch by one that renews it", Options{}, func(p *play) {
			p.l.Promise("a", Renewed)
			p.by(0, "a", 0, 1)
			p.by(1, "a", 0, 1)
		}, []Kind{Duplicate}},
		{"out of order by one that renews its epoch", Options{}, func(p *play) {
			p.l.Promise("a", Renewed)
			p.by(0, "a", 1, 0)
			p.by(1, "a", 0, 1)
		}, []Kind{Reordered}},
		{"twice under two epochs by one that does not renew it", Options{}, func(p *play) {
			p.by(0, "a", 0, 0)
			p.by(1, "a", 0, 1)
		}, []Kind{Duplicate}},
		{"twice by one that may", Options{}, func(p *play) {
			p.l.Promise("a", Loose)
			p.read(0, "a", 0)
			p.read(1, "a", 1)
			p.read(2, "a", 0)
		}, nil},
		{"the wrong way round", Options{}, func(p *play) {
			p.read(0, "a", 1)
			p.read(1, "a", 0)
		}, []Kind{Reordered}},
		{"a gap", Options{}, func(p *play) {
			p.read(0, "a", 0)
			p.read(2, "a", 1)
		}, []Kind{Skipped}},
		{"a marker", Options{Holes: true}, func(p *play) {
			p.read(0, "a", 0)
			p.read(2, "a", 1)
			p.r.End([]int64{4})
		}, nil},
		{"lost where markers may be", Options{Holes: true}, func(p *play) {
			p.ack(1, "b", 0)
			p.read(0, "a", 0)
			p.read(2, "a", 1)
		}, []Kind{Lost}},
		{"back", Options{}, func(p *play) {
			p.read(0, "a", 0)
			p.read(0, "a", 0)
		}, []Kind{Repeated, Duplicate}},
		{"damaged", Options{}, func(p *play) {
			b := p.l.Value("a", 0)
			b[len(b)/2] ^= 1
			p.r.Take(0, 0, b)
			p.r.Take(0, 1, []byte("something"))
		}, []Kind{Damaged, Damaged}},
		{"a group goes back to what it committed", Options{}, func(p *play) {
			p.r = p.l.Share("group")
			p.read(0, "a", 0)
			p.read(1, "a", 1)
			p.read(0, "a", 0)
			p.read(1, "a", 1)
			p.read(2, "a", 2)
		}, nil},
		{"a group leaves a message out", Options{}, func(p *play) {
			p.r = p.l.Share("group")
			p.ack(1, "a", 1)
			p.read(0, "a", 0)
			p.read(2, "a", 2)
		}, []Kind{Skipped}},
		{"the beginning was deleted by right", Options{}, func(p *play) {
			p.ack(0, "a", 0)
			p.ack(5, "a", 5)
			p.r.Skip(0, 5)
			p.read(5, "a", 5)
			p.r.End([]int64{6})
		}, nil},
		{"a message of an aborted transaction", Options{Holes: true}, func(p *play) {
			p.l.Abort("a", 0, 2)
			p.read(1, "a", 1)
		}, []Kind{Aborted}},
		{"a torn transaction", Options{Holes: true}, func(p *play) {
			p.l.Unsure("a", 0, 2)
			p.l.Unsure("a", 2, 4)
			p.l.Unsure("a", 4, 6)
			p.read(0, "a", 0)
			p.read(1, "a", 1)
			p.r.Marker(0, 2)
			p.read(3, "a", 4)
			p.r.End([]int64{5})
		}, []Kind{Torn}},
		{"acknowledged without an offset", Options{}, func(p *play) {
			p.l.Taker("a")(0, -1, []byte("0"))
			p.l.Taker("a")(0, -1, []byte("1"))
			p.read(0, "a", 0)
			p.r.End([]int64{1})
		}, []Kind{Lost}},
		{"a marker where a message was", Options{Holes: true}, func(p *play) {
			p.ack(1, "a", 0)
			p.r.Marker(0, 1)
		}, []Kind{Conflict}},
	} {
		p := begin(x.o)
		x.do(p)
		var got []Kind
		for _, f := range p.l.Findings() {
			got = append(got, f.Kind)
		}
		if !slices.Equal(got, x.want) {
			t.Errorf("%s: found %v, want %v: %v", x.name, got, x.want, p.l.Findings())
		}
	}
}

// TestWeak: what nobody promised is counted, not found.
func TestWeak(t *testing.T) {
	p := begin(Options{})
	p.l.Promise("w", Weak)
	for i := range 5 {
		p.ack(int64(i), "w", i)
	}
	p.read(0, "w", 0)
	p.read(1, "a", 0) // where number 1 of w was acknowledged before another leader was elected
	p.read(2, "w", 3)
	if lost := p.r.End([]int64{3}); lost != 3 {
		t.Errorf("%d are gone, want 3", lost)
	}
	if found := p.l.Findings(); len(found) > 0 {
		t.Errorf("found %v", found)
	}
}

// TestComplete: a message that was not copied is lost.
func TestComplete(t *testing.T) {
	from, to := begin(Options{}), begin(Options{})
	from.read(0, "a", 0)
	from.read(1, "a", 1)
	from.r.End([]int64{2})
	to.read(0, "a", 0)
	to.r.End([]int64{1})
	from.l.Complete(to.l)
	if found := to.l.Findings(); len(found) != 1 || found[0].Kind != Lost {
		t.Errorf("found %v", found)
	}
}

func TestTops(t *testing.T) {
	p := begin(Options{})
	p.ack(1, "a", 0)
	p.read(0, "b", 0)
	p.r.Next[0] = 7
	p.read(7, "b", 1)
	if tops := p.l.Tops(); !slices.Equal(tops, []int64{2}) || p.l.Count() != 1 {
		t.Errorf("tops %v, %d acknowledged", tops, p.l.Count())
	}
	if v := p.l.Value("a", 3); !bytes.HasPrefix(v, []byte("a 3 ddd")) {
		t.Errorf("a message is %.10q", v)
	}
}

// TestOracle: what a group may do, and what it may not.
func TestOracle(t *testing.T) {
	for _, x := range []struct {
		name string
		do   func(o *Oracle)
		want []Kind
	}{
		{"all is well", func(o *Oracle) {
			o.Owns("a", 1, []int32{0})
			o.Owns("a", 1, []int32{0})
			o.Committed(0, 5)
			o.Observe(0, 5, o.Promised()[0], "")
			o.Owns("b", 2, []int32{0})
			o.Committed(0, 7)
			o.Observe(0, 9, o.Promised()[0], "") // the answer is on its way
		}, nil},
		{"nothing was promised", func(o *Oracle) { o.Observe(0, -1, o.Promised()[0], "") }, nil},
		{"nobody says anything", func(o *Oracle) { o.Committed(0, 5) }, []Kind{Unread}},
		{"two owners", func(o *Oracle) {
			o.Owns("a", 3, []int32{0})
			o.Owns("b", 3, []int32{0})
		}, []Kind{Owned}},
		{"back", func(o *Oracle) {
			o.Committed(0, 5)
			o.Committed(0, 9)
			o.Observe(0, 5, o.Promised()[0], "")
			o.Observe(0, 5, o.Promised()[0], "")
		}, []Kind{Rewound}},
		{"lost", func(o *Oracle) {
			o.Committed(0, 5)
			o.Observe(0, -1, o.Promised()[0], "")
		}, []Kind{Rewound}},
		{"back to what was on its way for long", func(o *Oracle) {
			o.Committed(0, 9)
			o.Observe(0, 5, o.Promised()[0], "")
			o.Unsure(0, 5) // its sender gives up only now
		}, nil},
	} {
		l := New(Options{Topic: "t", Partitions: 1})
		o := l.Oracle("g")
		x.do(o)
		o.End()
		var got []Kind
		for _, f := range l.Findings() {
			got = append(got, f.Kind)
		}
		if !slices.Equal(got, x.want) {
			t.Errorf("%s: found %v, want %v", x.name, l.Findings(), x.want)
		}
	}
}
