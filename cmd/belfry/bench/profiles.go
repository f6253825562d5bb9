package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/belfry-mq/belfry/cmd/belfry/bench/load"
	"github.com/belfry-mq/belfry/cmd/belfry/bench/peer"
	"github.com/belfry-mq/belfry/cmd/belfry/bench/profile"
)

// Profile says where the time of a load goes whose lines missed a goal.
type Profile struct {
	Name       string          `json:"name"`
	Lines      []string        `json:"lines"`  // their IDs
	Busy       float64         `json:"busy"`   // part of all processors' time that was used by both sides
	Broker     float64         `json:"broker"` // its part of that
	BrokerTime []profile.Share `json:"broker_time"`
	ClientTime []profile.Share `json:"client_time,omitempty"` // not of a client that is a Java program
}

// workload is what some lines have in common. Lines that are not about a load (memory, start) have none.
type workload struct {
	name       string
	lines      []string
	settings   map[string]string
	partitions int // of the topic; 0: as all
	// prepare comes before the profile and may be nil.
	prepare func(ctx context.Context, l *live, topic string) error
	run     func(ctx context.Context, l *live, topic string) error
	java    bool // the client is Kafka's tool
	agent   bool // the node has its agent
	cluster bool // of three nodes, with their agents
}

// agentPeriods is how many samples and scrapes a profile of the agent holds.
const agentPeriods = 3

func (r *run) workloads() []workload {
	return slices.Concat(r.produceLoads(), r.consumeLoads(), r.pacedLoads(), r.agentLoads(), r.clusterLoads())
}

// produces is a load for a workload.
func (r *run) produces(p load.Produce) func(context.Context, *live, string) error {
	return func(ctx context.Context, l *live, topic string) error {
		p.Topic, p.For = topic, r.o.Time
		_, err := l.Produce(ctx, p)
		return err
	}
}

// answers is another one, at a fixed rate.
func (r *run) answers(p load.Pace) func(context.Context, *live, string) error {
	return func(ctx context.Context, l *live, topic string) error {
		p.Topic, p.Size, p.For = topic, 1000, r.o.Time
		_, err := l.Answer(ctx, p)
		return err
	}
}

func (r *run) produceLoads() (all []workload) {
	cache := peer.PageCache()
	for _, k := range produceKinds {
		all = append(all, workload{name: "produce, " + k.name, lines: []string{k.id}, settings: cache, run: r.produces(load.Produce{Size: k.size, Codec: k.codec})})
	}
	all = append(all,
		workload{name: "kafka-producer-perf-test", lines: []string{idProduceTool}, settings: cache, java: true, run: func(ctx context.Context, l *live, topic string) error {
			_, err := r.produceTool(ctx, l, topic)
			return err
		}},
		workload{name: "produce, fsync", lines: []string{idProduceFsync}, settings: peer.Flushed(), run: r.produces(load.Produce{Size: 1000})})
	for _, g := range growths(r.o) {
		p := g.load(r.o)
		all = append(all,
			workload{name: g.name("produce"), lines: []string{g.id("rate")}, settings: cache, partitions: g.partitions(r.o), run: r.produces(p)},
			workload{
				name: g.name(fmt.Sprintf("%d msg/s", growthRate)), lines: []string{g.id("p99")}, settings: cache, partitions: g.partitions(r.o),
				run: r.answers(load.Pace{Rate: growthRate, Clients: p.Clients, Spread: p.Spread}),
			})
	}
	return all
}

func (r *run) consumeLoads() []workload {
	cache := peer.PageCache()
	fill := func(ctx context.Context, l *live, topic string) error {
		_, err := l.Produce(ctx, load.Produce{Topic: topic, Size: 1000, For: r.o.Time / 2})
		return err
	}
	return []workload{
		{name: "consume", lines: []string{idConsumeTail, idConsumeCold, idConsumeWarm}, settings: cache, prepare: fill, run: func(ctx context.Context, l *live, topic string) error {
			_, err := l.Consume(ctx, topic, r.o.Time)
			return err
		}},
		{name: "consume, not decoded", lines: []string{idFetchTail, idFetchWarm}, settings: cache, prepare: fill, run: func(ctx context.Context, l *live, topic string) error {
			_, err := l.Fetch(ctx, topic, r.o.Time)
			return err
		}},
		{name: "kafka-consumer-perf-test", lines: []string{idConsumeTool}, settings: cache, java: true, prepare: func(ctx context.Context, l *live, topic string) error {
			_, err := l.Produce(ctx, load.Produce{Topic: topic, Size: 1000, Bytes: int64(r.toolMessages()) * 1000})
			return err
		}, run: func(ctx context.Context, l *live, topic string) error {
			_, err := r.consumeTool(ctx, l, topic)
			return err
		}},
		{name: "1:1", lines: []string{idBoth}, settings: cache, run: func(ctx context.Context, l *live, topic string) error {
			_, err := l.Both(ctx, load.Produce{Topic: topic, Size: 1000, For: r.o.Time})
			return err
		}},
	}
}

func (r *run) pacedLoads() []workload {
	return []workload{
		{
			name: fmt.Sprintf("%d msg/s", r.o.Rate), lines: []string{"answer.p50", "answer.p99", "answer.p999"}, settings: peer.PageCache(),
			run: r.answers(load.Pace{Rate: r.o.Rate}),
		},
		{name: fmt.Sprintf("end to end, %d msg/s", r.o.EndToEndRate), lines: []string{idE2E}, settings: peer.PageCache(), run: func(ctx context.Context, l *live, topic string) error {
			_, err := l.EndToEnd(ctx, load.Pace{Topic: topic, Size: 1000, Rate: r.o.EndToEndRate, For: r.o.Time})
			return err
		}},
	}
}

func (r *run) agentLoads() []workload {
	return []workload{{
		name: "samples and scrapes", lines: []string{idAgentRate, idScrapeOne, idScrapeTwo}, settings: peer.PageCache(), agent: true,
		prepare: func(ctx context.Context, l *live, _ string) error { return r.furnish(ctx, l) },
		run: func(ctx context.Context, l *live, _ string) error {
			for range agentPeriods {
				if _, err := r.period(ctx, []string{l.Second}, l); err != nil {
					return err
				}
			}
			return nil
		},
	}}
}

// profiles measures what missed a goal once more, with profiles of both sides. Why not in the
// rounds: a profile costs time itself.
func (r *run) profiles(ctx context.Context) error {
	todo := slices.DeleteFunc(r.workloads(), func(w workload) bool {
		return !slices.ContainsFunc(w.lines, func(id string) bool { return r.res.line(id).missed() })
	})
	if len(todo) == 0 {
		return nil
	}
	if r.o.Profiles != "" {
		if err := os.MkdirAll(r.o.Profiles, 0o755); err != nil {
			return err
		}
	}
	more := peer.Setting{Name: "agent.period", Value: r.o.AgentPeriod.String()}
	of := func(agent, cluster bool) []workload {
		return slices.DeleteFunc(slices.Clone(todo), func(w workload) bool { return w.agent != agent || w.cluster != cluster })
	}
	for _, agent := range []bool{false, true} {
		if err := r.profilesOf(ctx, peer.BelfryProfiled(r.o.Program, r.o.Version, agent, more), of(agent, false)); err != nil {
			return err
		}
	}
	return r.clusterProfiles(ctx, of(false, true))
}

func (r *run) profilesOf(ctx context.Context, s peer.Spec, all []workload) error {
	if len(all) == 0 {
		return nil
	}
	l, err := r.start(ctx, s)
	if err != nil {
		return err
	}
	defer l.Stop()
	for _, w := range all {
		r.say("profile of %s", w.name)
		if err := r.profile(ctx, l, w); err != nil {
			return fmt.Errorf("%s: %w\n%s", w.name, err, l.Said())
		}
	}
	return nil
}

func (r *run) profile(ctx context.Context, l *live, w workload) error {
	partitions := w.partitions
	if partitions == 0 {
		partitions = r.o.Partitions
	}
	topic, drop, err := r.newTopic(ctx, l, partitions, w.settings)
	if err != nil {
		return err
	}
	if w.prepare != nil {
		err = w.prepare(ctx, l, topic)
	}
	var p Profile
	if err == nil {
		s := side{cpu: l.CPU, remotes: []profile.Remote{profile.Remote(l.Profiles)}}
		p, err = r.record(s, w, func() error { return w.run(ctx, l, topic) })
	}
	if err := errors.Join(err, drop(ctx)); err != nil {
		return err
	}
	r.res.Profiles = append(r.res.Profiles, p)
	return nil
}

// side is the brokers' side of a profile.
type side struct {
	cpu     func() time.Duration
	remotes []profile.Remote // each process
}

// record runs a load while both sides take their profiles.
func (r *run) record(s side, w workload, load func() error) (Profile, error) {
	p := Profile{Name: w.name, Lines: w.lines}
	own := new(profile.Recorder)
	for _, remote := range s.remotes {
		if err := remote.Start(); err != nil {
			return p, err
		}
	}
	if err := own.Start(); err != nil {
		return p, err
	}
	begin, broker, client := time.Now(), s.cpu(), clientCPU()
	failed := load()
	took := time.Since(begin)
	broker, client = s.cpu()-broker, clientCPU()-client
	client = max(client, time.Millisecond)
	p.Busy = min((broker+client).Seconds()/took.Seconds()/float64(runtime.NumCPU()), 1)
	p.Broker = broker.Seconds() / (broker + client).Seconds()
	ours, err := own.Stop()
	var theirs [][]byte
	for _, remote := range s.remotes {
		b, failed := remote.Stop()
		theirs, err = append(theirs, b), errors.Join(err, failed)
	}
	if err := errors.Join(failed, err); err != nil {
		return p, err
	}
	if p.BrokerTime, err = r.shares(w.name+" broker", theirs...); err == nil && !w.java {
		p.ClientTime, err = r.shares(w.name+" client", ours)
	}
	return p, err
}

// shares sums profiles up, and keeps them where that is wanted.
func (r *run) shares(name string, profiles ...[]byte) ([]profile.Share, error) {
	var all []profile.Sample
	for i, b := range profiles {
		file := name
		if len(profiles) > 1 {
			file += fmt.Sprint(" ", i+1)
		}
		if err := r.keep(file, b); err != nil {
			return nil, err
		}
		samples, err := profile.Parse(b)
		if err != nil {
			return nil, err
		}
		all = append(all, samples...)
	}
	return profile.Shares(all), nil
}

func (r *run) keep(name string, b []byte) error {
	if r.o.Profiles == "" {
		return nil
	}
	file := strings.NewReplacer(", ", "-", " ", "-", "/", "-", ":", "-").Replace(name) + ".pprof"
	return os.WriteFile(filepath.Join(r.o.Profiles, file), b, 0o644)
}

// clientCPU is the processor time of this process and of the tools that it has run.
func clientCPU() (sum time.Duration) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err == nil {
			sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return sum
}

// missed tells whether one of the goals is missed.
func (m *Measure) missed() bool {
	if m == nil {
		return false
	}
	_, _, one := m.compare(m.Against, m.Goal)
	_, _, two := m.compare(limitColumn, m.LimitGoal)
	return one == verdictMissed || two == verdictMissed
}

// profileRows gives the lines that missed a goal: where their time goes, and what a broker that
// stores nothing would reach.
func (r *Result) profileRows() [][]string {
	var rows [][]string
	for _, m := range r.Lines {
		if !m.missed() {
			continue
		}
		row := []string{m.Name, "", "", "", "", m.bound()}
		for _, p := range r.Profiles {
			if slices.Contains(p.Lines, m.ID) {
				row[1], row[2] = percent(p.Busy), percent(p.Broker)+" : "+percent(1-p.Broker)
				row[3], row[4] = top(p.BrokerTime), top(p.ClientTime)
			}
		}
		rows = append(rows, row)
	}
	return rows
}

var profileColumns = []string{"line that missed a goal", "processors busy", "broker : client", "the broker's time", "the client's time", "a broker that stores nothing"}

// bound compares the null broker with what the missed goals are about: no broker gets further with
// this client on this machine.
func (m *Measure) bound() string {
	column := peer.Null
	if m.Limit == peer.Null {
		column = limitColumn
	}
	var said []string
	for _, g := range []struct {
		to, name string
		goal     float64
	}{{m.Against, m.Against, m.Goal}, {limitColumn, m.Limit, m.LimitGoal}} {
		best, ok := m.ratio(column, g.to)
		if _, _, verdict := m.compare(g.to, g.goal); !ok || verdict != verdictMissed || column == g.to {
			continue
		}
		s := fmt.Sprintf("%.3g × %s", best, g.name)
		if !m.met(best, g.goal) {
			s += ": the goal is out of reach"
		}
		said = append(said, s)
	}
	return strings.Join(said, "; ")
}

// topShares is how many shares are told, leastShare the smallest of them.
const (
	topShares  = 5
	leastShare = 0.03
)

func top(all []profile.Share) string {
	var said []string
	for _, s := range all[:min(len(all), topShares)] {
		if s.Part >= leastShare {
			said = append(said, s.Name+" "+percent(s.Part))
		}
	}
	return strings.Join(said, ", ")
}

func percent(part float64) string { return strconv.Itoa(int(100*part+0.5)) + " %" }
