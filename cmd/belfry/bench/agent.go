package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/belfry-mq/belfry/cmd/belfry/bench/load"
	"github.com/belfry-mq/belfry/cmd/belfry/bench/peer"
)

const (
	kafkaExporter = peer.KafkaExporter
	kminion       = peer.KMinion
)

const (
	agentPartitions = 5 // of each topic
	agentReads      = 5 // topics that each group has offsets of
	agentName       = "agent on"
	brokerName      = "agent off"
)

// agent compares a node with its agent with a broker alone, both with the same topics and
// groups, and what a sample and a scrape cost with what the exporters beside a broker cost.
func (r *run) agent(ctx context.Context) error {
	r.res.remark("agent: agent.period=%v instead of 1m0s, so that each measurement holds a sample; a scrape of the node shows the last sample, an exporter asks the broker for each", r.o.AgentPeriod)
	more := peer.Setting{Name: "agent.period", Value: r.o.AgentPeriod.String()}
	on := peer.BelfryNode(r.o.Program, r.o.Version, more)
	off := peer.BelfryBroker(r.o.Program, r.o.Version)
	ls, stop, err := r.startAll(ctx, []peer.Spec{on, off})
	if err != nil {
		return err
	}
	defer stop()
	ls[0].name, ls[1].name = agentName, brokerName
	for _, l := range ls {
		if err := r.furnish(ctx, l); err != nil {
			return fmt.Errorf("%s: %w\n%s", l.name, err, l.Said())
		}
		if _, err := r.warmUp(ctx, l); err != nil {
			return err
		}
	}
	d := max(r.o.Time, r.o.AgentPeriod)
	err = r.rounds(ctx, ls, func(ctx context.Context, l *live) error {
		return r.on(ctx, l, l.pageCache(), func(topic string) error {
			a, err := l.Produce(ctx, load.Produce{Topic: topic, Size: 1000, For: d})
			column := peer.Belfry
			if l.name == brokerName {
				column = limitColumn
			}
			r.res.note(idAgentRate, column, a.Rate())
			return err
		})
	})
	if err != nil {
		return err
	}
	return r.scrapes(ctx, ls[0], ls[1])
}

// furnish makes topics and groups.
func (r *run) furnish(ctx context.Context, l *live) error {
	names := make([]string, r.o.AgentTopics)
	for i := range names {
		names[i] = fmt.Sprintf("furniture-%d", i)
	}
	for _, name := range names {
		if err := l.Create(ctx, name, agentPartitions, nil); err != nil {
			return err
		}
	}
	for g := range names {
		var reads []string
		for i := range agentReads {
			reads = append(reads, names[(g+i)%len(names)])
		}
		if err := l.Commit(ctx, fmt.Sprintf("readers-%d", g), agentPartitions, reads...); err != nil {
			return err
		}
	}
	return nil
}

// scrapes measures the processor time of a scrape: what a node with its agent uses in a period in
// which it is scraped (more than once, divided), above what it uses in one without, against what an exporter and the
// broker it asks use together. The sample that a node takes once a period, whoever scrapes, has a
// line of its own: what it uses in a period without a scrape, above what a broker alone uses. An
// exporter has no sample, it asks whenever it is scraped: so both stand there together, too.
func (r *run) scrapes(ctx context.Context, on, off *live) error {
	exporters := map[string]*live{}
	for _, name := range []string{kafkaExporter, kminion} {
		s, err := peer.Exporter(r.o.Cache, name, off.Process.Addr)
		if err != nil {
			r.res.remark("%s was not measured: %v", name, err)
			continue
		}
		l, err := r.start(ctx, s)
		if err != nil {
			return err
		}
		defer l.Stop()
		exporters[name] = l
		r.res.Peers = append(r.res.Peers, Peer{Name: s.Name, Version: s.Version, Settings: s.Settings})
	}
	for round := range r.o.Rounds {
		r.say("round %d of %d: scrapes", round+1, r.o.Rounds)
		idle, err := r.period(ctx, nil, off)
		if err != nil {
			return err
		}
		sampled, err := r.period(ctx, nil, on)
		if err != nil {
			return err
		}
		own, err := r.period(ctx, slices.Repeat([]string{on.Second}, ownScrapes), on)
		if err != nil {
			return err
		}
		r.res.note(idSample, peer.Belfry, max(float64((sampled-idle).Microseconds())/1000, 0.001))
		cost := max(float64((own-sampled).Microseconds())/1000/ownScrapes, 0.001)
		with := max(float64((sampled-idle).Microseconds())/1000, 0.001) + cost
		r.res.note(idSampleOne, peer.Belfry, with)
		r.res.note(idSampleTwo, peer.Belfry, with)
		r.res.note(idScrapeOne, peer.Belfry, cost)
		r.res.note(idScrapeTwo, peer.Belfry, cost)
		for name, ids := range map[string][]string{kafkaExporter: {idScrapeOne, idSampleOne}, kminion: {idScrapeTwo, idSampleTwo}} {
			if l := exporters[name]; l != nil {
				used, err := r.period(ctx, []string{l.Process.Addr}, off, l)
				if err != nil {
					return fmt.Errorf("%s: %w\n%s", name, err, l.Said())
				}
				for _, id := range ids {
					r.res.note(id, name, float64((used-idle).Microseconds())/1000)
				}
			}
		}
	}
	return nil
}

// ownScrapes is how many scrapes of a node's own are in a period. Why so many: one uses less than
// two samples differ by.
const ownScrapes = 20

// period scrapes each address and gives what the processes used in a whole period of the agent, in
// the middle of which the scrapes are.
func (r *run) period(ctx context.Context, scrapes []string, ls ...*live) (time.Duration, error) {
	used := func() (sum time.Duration) {
		for _, l := range ls {
			sum += l.FineCPU()
		}
		return sum
	}
	before := used()
	if err := sleep(ctx, r.o.AgentPeriod/2); err != nil {
		return 0, err
	}
	for _, scrape := range scrapes {
		if err := peer.Scrape(ctx, scrape); err != nil {
			return 0, fmt.Errorf("cannot scrape: %w", err)
		}
	}
	err := sleep(ctx, r.o.AgentPeriod/2)
	return used() - before, err
}
