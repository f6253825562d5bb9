package guard

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"
)

// probe is what one look at the disk gave.
type probe struct {
	reading  Reading
	took     time.Duration
	recalled bool // refusing holds what the memory said
	refusing bool
	forgot   error
	err      error
}

// act is what one deletion gave.
type act struct {
	freed   int64
	back    bool    // the disk has the space again
	percent float64 // the usage that it was ordered for
	err     error
}

// Prime looks once and sets the brake, so that a full disk refuses produce from the first moment. Call it after New,
// before the listeners open and before Run, which does the deletion if one is due. Blocks: at most Settings.Timeout. Errors: the disk
// could not be read; Run goes on trying.
func (g *Guard) Prime(ctx context.Context) error {
	g.startProbe()
	deadline := time.NewTimer(g.settings.Timeout)
	defer deadline.Stop()
	select {
	case p := <-g.probed:
		g.due = g.take(p).Delete
		return p.err
	case <-deadline.C:
		g.missed(ErrProbeTimeout)
		return ErrProbeTimeout
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Run watches until ctx ends, and leaves the brake as it is. All its goroutines are over when it returns, save one that
// hangs in a system call on a dead disk: nobody can end that; Run waits Settings.Timeout for it.
func (g *Guard) Run(ctx context.Context) error {
	telling, told := context.WithCancel(context.WithoutCancel(ctx))
	var acts, teller sync.WaitGroup
	teller.Go(func() { g.teller(telling) })
	defer g.unwind(&acts, &teller, told)

	clean := func() {
		percent := g.now.Percent
		acts.Go(func() { g.act(ctx, percent) })
	}
	if g.due {
		g.due = false
		clean()
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	if g.probing { // Prime's look has not come back
		timer.Reset(g.settings.Interval)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			if g.probing {
				g.missed(ErrProbeTimeout)
				timer.Reset(g.settings.Interval)
				continue
			}
			g.startProbe()
			timer.Reset(g.settings.Timeout)
		case p := <-g.probed:
			if d := g.take(p); d.Delete {
				clean()
			}
			timer.Reset(g.pause())
		case a := <-g.acted:
			g.finish(a)
			if !g.probing {
				timer.Reset(0) // what did it bring?
			}
		case <-g.nudge:
			if d := g.reconfigure(); d.Delete {
				clean()
			}
		}
	}
}

// unwind waits for the goroutines of Run: first a deletion, so that it is told, then the teller.
func (g *Guard) unwind(acts, teller *sync.WaitGroup, told context.CancelFunc) {
	limit := time.NewTimer(g.settings.Timeout)
	defer limit.Stop()
	if g.acting && over(acts.Wait, limit) {
		g.finish(<-g.acted)
	}
	told()
	whole := over(teller.Wait, limit)
	if g.probing {
		select {
		case <-g.probed:
			g.probing = false
		case <-limit.C:
			whole = false
		}
	}
	if !whole || g.acting {
		g.o.Logger.Error("capacity guard leaves a goroutine that hangs on the disk", "broker", g.o.Broker)
	}
}

// over tells whether wait returned before the limit.
func over(wait func(), limit *time.Timer) bool {
	done := make(chan struct{})
	go func() { wait(); close(done) }()
	select {
	case <-done:
		return true
	case <-limit.C:
		limit.Reset(0) // whoever waits next waits no more
		return false
	}
}

func (g *Guard) startProbe() {
	g.probing, g.late = true, false
	recall := g.o.Memory != nil && !g.recalled
	g.recalled = true
	go func() {
		start := time.Now()
		p := probe{recalled: recall}
		if recall {
			p.refusing, p.forgot = g.o.Memory.Load()
		}
		used, total, percent, err := g.o.Usage()
		end := time.Now()
		p.took = end.Sub(start)
		p.err = err
		p.reading = Reading{At: end, Used: used, Total: total, Percent: percent}
		g.probed <- p // never blocks: one probe at a time, one place
	}()
}

// take folds a finished look into the machine and performs all of the decision but the deletion.
func (g *Guard) take(p probe) Decision {
	g.probing, g.probeTook = false, p.took
	if p.recalled {
		if p.forgot != nil {
			g.o.Logger.Warn("capacity guard cannot read its memory", "error", p.forgot)
		} else {
			g.machine.Restore(p.refusing)
			g.refuse = p.refusing // its beginning was told in the process's last life; its end is to be told and remembered
		}
	}
	if p.err != nil {
		g.missed(p.err)
		return Decision{}
	}
	if g.now.ProbeFailed {
		g.now.ProbeFailed = false
		g.event(Event{Kind: ProbeRecovered, Text: "disk usage can be read again"})
	}
	g.trend.Add(p.reading)
	g.now.Checked, g.now.Percent = p.reading.At, p.reading.Percent
	g.now.Used, g.now.Total = p.reading.Used, p.reading.Total
	d := g.machine.Observe(p.reading)
	if !g.machine.Above() {
		g.trouble = ""
	}
	return g.perform(d)
}

// missed notes that the disk could not be read.
func (g *Guard) missed(err error) {
	if g.late {
		return // the same look, already told
	}
	g.late = g.probing
	g.now.Failures++
	if !g.now.ProbeFailed {
		g.now.ProbeFailed = true
		g.event(Event{Kind: ProbeFailed, Err: err.Error(), Text: "disk usage cannot be read; a refusal in force stays, nothing is deleted"})
	}
	g.perform(g.machine.Unknown())
}

// perform sets the brake as decided, notes and publishes. The deletion, if any, is the caller's to start.
func (g *Guard) perform(d Decision) Decision {
	if d.Refuse {
		g.o.Brake.RefuseProduce(d.Reason)
	} else if g.refuse {
		g.o.Brake.RefuseProduce("")
	}
	if d.Refuse != g.refuse {
		g.refuse = d.Refuse
		g.remember(d.Refuse)
		if d.Refuse {
			g.now.Refusals++
			g.event(Event{Kind: RefuseBegan, Text: "produce is refused: " + d.Reason})
		} else {
			g.event(Event{Kind: RefuseEnded, Text: "produce is accepted again"})
		}
	}
	if d.Refuse || d.Delete {
		g.now.lastAct = time.Now()
	}
	if d.Delete {
		g.acting = true
	}
	g.now.Refusing, g.now.Deleting, g.now.Exhausted = g.refuse, g.acting, g.machine.Exhausted()
	g.now.Forecast, g.now.Filling = g.forecast()
	g.publish()
	return d
}

// act performs one deletion.
func (g *Guard) act(ctx context.Context, percent float64) {
	held := g.o.Held()
	want := int64(float64(held) * g.settings.Share)
	a := act{percent: percent}
	if want > 0 {
		used, _, _, err := g.o.Usage()
		a.freed, a.err = g.o.Cleaner.FreeOldest(ctx, want)
		// Why here and by what was written meanwhile: on a full disk the producers that waited take
		// what was freed at once, and a later look sees no difference.
		written := g.o.Held() - held + a.freed
		now, _, _, err2 := g.o.Usage()
		a.back = err == nil && err2 == nil && a.freed > 0 && used-now+written >= a.freed/2
	}
	g.acted <- a // never blocks: one deletion at a time, one place
}

func (g *Guard) finish(a act) {
	at := time.Now()
	g.acting, g.now.Deleting = false, false
	g.machine.Acted(a.freed, a.err != nil, at)
	if a.back {
		g.machine.Returned()
	}
	trouble := ""
	if a.err != nil {
		trouble = a.err.Error()
	} else if a.freed <= 0 {
		trouble = "nothing left"
	}
	news := trouble != g.trouble
	g.trouble = trouble
	g.now.Exhausted = g.machine.Exhausted()
	g.now.lastAct = at
	if a.err != nil {
		g.now.Failures++
	}
	if a.freed > 0 {
		g.now.Deletions++
		g.now.DeletedBytes += a.freed
	}
	if a.freed > 0 || news { // a disk that others filled is told once, not every check
		e := Event{Kind: Deleted, Bytes: a.freed, Percent: a.percent, Text: fmt.Sprintf("deleted the oldest %d bytes of message data", a.freed)}
		switch {
		case a.err != nil:
			e.Err = a.err.Error()
			e.Text = fmt.Sprintf("deleted the oldest %d bytes of message data, then could not go on", a.freed)
		case a.freed == 0:
			e.Text = "nothing is left to delete, and the disk is above the threshold"
		}
		g.event(e)
	}
	g.publish()
}

// reconfigure takes the wanted settings.
func (g *Guard) reconfigure() Decision {
	g.mu.Lock()
	wanted, orders := g.mu.wanted, g.mu.orders
	g.mu.orders = nil
	g.mu.Unlock()
	old := g.settings
	g.settings = wanted
	g.now.Policy, g.now.Threshold = wanted.Policy, wanted.Threshold
	by := ""
	for _, o := range orders {
		by = o.by
	}
	if old != wanted {
		g.event(Event{Kind: SettingChanged, By: by, Text: fmt.Sprintf("capacity policy %s at %s, before %s at %s",
			wanted.Policy, percentText(wanted.Threshold), old.Policy, percentText(old.Threshold))})
	}
	d := g.perform(g.machine.Configure(wanted.limits(), time.Now()))
	for _, o := range orders {
		g.later(func(context.Context) { o.end(nil) })
	}
	return d
}

// pause is the time to the next look: soon enough for writers as fast as those of late.
func (g *Guard) pause() time.Duration {
	if g.refuse || g.now.ProbeFailed || g.machine.Idle() {
		return g.settings.Interval
	}
	until, filling := Forecast(g.now.Used, g.limitBytes(), g.trend.Peak())
	return NextCheck(until, filling, max(floorInterval, probeShare*g.probeTook), g.settings.Interval)
}

func (g *Guard) forecast() (time.Duration, bool) {
	if g.now.Checked.IsZero() {
		return 0, false
	}
	pace, _ := g.trend.Pace()
	return Forecast(g.now.Used, g.limitBytes(), pace)
}

// limitBytes is the threshold in bytes. Why by the percentage: it is df's, whose whole is not the total.
func (g *Guard) limitBytes() int64 {
	if g.now.Percent > 0 {
		return int64(float64(g.now.Used) / g.now.Percent * g.settings.Threshold)
	}
	return int64(float64(g.now.Total) / 100 * g.settings.Threshold)
}

func (g *Guard) remember(refusing bool) {
	if g.o.Memory == nil {
		return
	}
	g.later(func(context.Context) {
		if err := g.o.Memory.Store(refusing); err != nil {
			g.o.Logger.Warn("capacity guard cannot write its memory", "error", err)
		}
	})
}

func (g *Guard) event(e Event) {
	e.At = time.Now()
	e.Policy, e.Threshold = g.settings.Policy, g.settings.Threshold
	if e.By == "" {
		e.By = "guard"
	}
	if e.Percent == 0 {
		e.Percent = g.now.Percent
	}
	level := slog.LevelInfo
	if e.Kind == ProbeFailed || e.Kind == RefuseBegan || e.Err != "" {
		level = slog.LevelWarn
	}
	g.o.Logger.Log(context.Background(), level, "capacity guard", "event", string(e.Kind), "text", e.Text,
		"usage_percent", e.Percent, "policy", string(e.Policy), "bytes", e.Bytes, "by", e.By, "error", e.Err)
	if g.o.Audit != nil {
		g.later(func(ctx context.Context) { g.o.Audit.Record(ctx, e) })
	}
}

// later hands work that may hang to the teller.
func (g *Guard) later(f func(context.Context)) {
	select {
	case g.tell <- f:
	default:
		g.now.Untold++
	}
}

// teller does what may hang, in order; when ctx ends it does what is still waiting, within Settings.Timeout.
func (g *Guard) teller(ctx context.Context) {
	for {
		select {
		case f := <-g.tell:
			f(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.o.Settings.Timeout)
			defer cancel()
			for {
				select {
				case f := <-g.tell:
					f(last)
				default:
					return
				}
			}
		}
	}
}

func percentText(p float64) string { return strconv.FormatFloat(p, 'g', -1, 64) + " %" }
