package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/belfry-mq/belfry/cmd/belfry/bench/limit"
	"github.com/belfry-mq/belfry/cmd/belfry/bench/load"
	"github.com/belfry-mq/belfry/cmd/belfry/bench/peer"
)

// data measures throughput and times. All peers run beside each other from the first round to
// the last, so that one that compiles itself while it runs is as warm as it gets.
func (r *run) data(ctx context.Context) error {
	ls, stop, err := r.startAll(ctx, r.only(peer.Belfry, peer.Kafka, peer.Klite, peer.Null))
	if err != nil {
		return err
	}
	defer stop()
	read := map[*live]string{} // topic that is read cold and warm
	for _, l := range ls {
		r.say("warming up %s", l.name)
		if read[l], err = r.warmUp(ctx, l); err == nil {
			continue
		}
		err = fmt.Errorf("%s: %w\n%s", l.name, err, l.Said())
		if ctx.Err() != nil || l.name == peer.Belfry {
			return err
		}
		r.failed(l, "the warm-up", err) // it goes on with what it can do
	}
	n, err := r.newNATS(ctx)
	if err != nil {
		return err
	}
	return r.rounds(ctx, ls, func(ctx context.Context, l *live) error {
		if err := r.steps(ctx, l, r.dataSteps(l, read[l])); err != nil || n == nil || l.name != peer.Belfry {
			return err
		}
		r.say("and NATS") // here, as it has a client of its own
		return r.steps(ctx, n.live, n.steps(r))
	})
}

// warmUp drives both data roads for a while and leaves a topic to read.
func (r *run) warmUp(ctx context.Context, l *live) (topic string, err error) {
	half := r.o.WarmUp / 2
	err = r.on(ctx, l, l.pageCache(), func(topic string) error {
		if _, err := l.Produce(ctx, load.Produce{Topic: topic, Size: 1000, For: half}); err != nil {
			return err
		}
		_, err := l.Consume(ctx, topic, half)
		return err
	})
	if err != nil || !r.wants(sectionConsume) || l.name != peer.Belfry && l.name != peer.Kafka {
		return "", err
	}
	if topic, _, err = r.newTopic(ctx, l, r.o.Partitions, l.pageCache()); err != nil {
		return "", err
	}
	if _, err = l.Produce(ctx, load.Produce{Topic: topic, Size: 1000, Bytes: int64(r.o.ReadGB * 1e9)}); err != nil {
		return "", err
	}
	return topic, l.settle()
}

// step is a part of a round that fails alone.
type step struct {
	section, name string
	run           func(context.Context, *live) error
}

// dataSteps are what a peer does in a round. The null broker takes part where it can: what it
// reaches is the limit of the client, the protocol and the machine.
func (r *run) dataSteps(l *live, read string) (all []step) {
	for _, k := range produceKinds {
		all = append(all, step{sectionProduce, k.name, func(ctx context.Context, l *live) error { return r.produce(ctx, l, k) }})
	}
	all = append(all, step{sectionProduce, "message by message", r.single})
	null := l.name == peer.Null
	if !null {
		all = append(all, step{sectionFsync, "fsync", r.fsync})
	}
	all = append(all, step{sectionConsume, "consume at the tail", r.consumeTail})
	if read != "" {
		all = append(all, step{sectionConsume, "consume from disk", func(ctx context.Context, l *live) error { return r.consumeDisk(ctx, l, read) }})
	}
	all = append(all, step{sectionBoth, "1:1", r.both},
		step{sectionLatency, "answer times", func(ctx context.Context, l *live) error { return r.latency(ctx, l, "answer", l.pageCache()) }})
	if !null && l.name != peer.Klite {
		all = append(all, step{sectionLatency, "answer times with fsync", func(ctx context.Context, l *live) error {
			return r.latency(ctx, l, "answer.fsync", peer.Flushed())
		}})
	}
	return append(all, step{sectionE2E, "end-to-end times", r.endToEnd}, step{sectionTools, "Kafka's tools", r.tools})
}

// produceKind is a kind of messages.
type produceKind struct {
	id, name, codec string
	size            int
}

var produceKinds = [...]produceKind{
	{idProduce1K, "1 KB", "", 1000}, {"produce.100b", "100 B", "", 100}, {"produce.10k", "10 KB", "", 10_000}, {"produce.lz4", "lz4", "lz4", 1000},
}

// produce measures a kind of messages, with memory and processor time for the first.
func (r *run) produce(ctx context.Context, l *live, kind produceKind) error {
	return r.on(ctx, l, l.pageCache(), func(topic string) error {
		before, peak := l.CPU(), l.peak()
		a, err := l.Produce(ctx, load.Produce{Topic: topic, Size: kind.size, Codec: kind.codec, For: r.o.Time})
		most := peak()
		if err != nil {
			return err
		}
		r.res.note(kind.id, l.name, a.Rate())
		if kind.id == idProduce1K {
			if l.name == peer.Kafka {
				r.res.note(idProduceSafe, l.name, a.Rate())
			}
			if l.name != peer.Null {
				r.res.note(idMemoryLoad, l.name, most)
			}
			r.res.note(idProduceCPU, l.name, (l.CPU()-before).Seconds()/a.Gigabytes())
		}
		return nil
	})
}

func (r *run) single(ctx context.Context, l *live) error {
	return r.on(ctx, l, l.pageCache(), func(topic string) error {
		a, err := l.Single(ctx, topic, 1000, r.o.Time/2)
		if err != nil {
			return err
		}
		r.res.note(idProduceSingle, l.name, a.Rate()*1000) // of 1 000 bytes each
		return nil
	})
}

// flushChunk is how much the limit writes between two flushes: franz-go's largest batch.
const flushChunk = 1 << 20

func (r *run) fsync(ctx context.Context, l *live) error {
	settings := peer.Flushed()
	if l.name == peer.Klite {
		settings = nil
	}
	err := r.on(ctx, l, settings, func(topic string) error {
		a, err := l.Produce(ctx, load.Produce{Topic: topic, Size: 1000, For: r.o.Time})
		if err != nil {
			return err
		}
		r.res.note(idProduceFsync, l.name, a.Rate())
		if l.name != peer.Kafka {
			r.res.note(idProduceSafe, l.name, a.Rate())
		}
		return nil
	})
	if err != nil || l.name != peer.Belfry {
		return err
	}
	a, err := limit.Flush(ctx, r.o.Dir, r.o.Partitions, flushChunk, r.o.Time)
	if err != nil {
		return err
	}
	r.res.note(idProduceFsync, limitColumn, a.Rate())
	return nil
}

// consumeTail reads what was just written.
func (r *run) consumeTail(ctx context.Context, l *live) error {
	if l.name == peer.Null {
		return r.consumeLimit(ctx, l)
	}
	return r.on(ctx, l, l.pageCache(), func(topic string) error {
		if _, err := l.Produce(ctx, load.Produce{Topic: topic, Size: 1000, For: r.o.Time / 2}); err != nil {
			return err
		}
		before := l.CPU()
		a, err := l.Consume(ctx, topic, r.o.Time)
		if err != nil {
			return err
		}
		r.res.note(idConsumeTail, l.name, a.Rate())
		r.res.note(idConsumeCPU, l.name, (l.CPU()-before).Seconds()/a.Gigabytes())
		return r.fetch(ctx, l, idFetchTail, topic)
	})
}

// consumeLimit takes endless messages from memory.
func (r *run) consumeLimit(ctx context.Context, l *live) error {
	before := l.CPU()
	a, err := l.Consume(ctx, "null", r.o.Time/2)
	if err != nil {
		return err
	}
	for _, id := range []string{idConsumeTail, idConsumeWarm, idConsumeCold} {
		r.res.note(id, l.name, a.Rate())
	}
	r.res.note(idConsumeCPU, l.name, (l.CPU()-before).Seconds()/a.Gigabytes())
	return nil
}

// consumeDisk reads the topic that is there since the start, cold and warm; the limits send the
// same files.
func (r *run) consumeDisk(ctx context.Context, l *live, read string) error {
	files := l.Segments() // of this topic and, by a few bytes, of the broker's own
	if err := r.cold(ctx, files, func() error {
		a, err := l.Pass(ctx, read, 2*r.o.Time)
		if err != nil {
			return err
		}
		r.res.note(idConsumeCold, l.name, a.Rate())
		return nil
	}); err != nil {
		return err
	}
	if _, err := l.Pass(ctx, read, time.Minute); err != nil { // now it is in the page cache
		return err
	}
	a, err := l.Consume(ctx, read, r.o.Time)
	if err != nil {
		return err
	}
	r.res.note(idConsumeWarm, l.name, a.Rate())
	if err := r.fetch(ctx, l, idFetchWarm, read); err != nil {
		return err
	}
	if l.name != peer.Belfry {
		return nil
	}
	return r.sendLimit(ctx, files)
}

func (r *run) fetch(ctx context.Context, l *live, id, topic string) error {
	a, err := l.Fetch(ctx, topic, r.o.Time/2)
	if err != nil {
		return err
	}
	r.res.note(id, l.name, a.Rate())
	return nil
}

func (r *run) sendLimit(ctx context.Context, files []string) error {
	a, err := limit.Send(ctx, files, true, r.o.Time/2)
	if err != nil {
		return err
	}
	for _, id := range []string{idConsumeTail, idConsumeWarm, idFetchTail, idFetchWarm} {
		r.res.note(id, limitColumn, a.Rate())
	}
	return r.cold(ctx, files, func() error {
		a, err := limit.Send(ctx, files, false, 2*r.o.Time)
		r.res.note(idConsumeCold, limitColumn, a.Rate())
		return err
	})
}

// cold calls read when files are not in the page cache; where that cannot be had, it says so.
func (r *run) cold(ctx context.Context, files []string, read func() error) error {
	if err := limit.Evict(files); err != nil {
		r.res.remark("consume from disk, cold, was not measured: %v", err)
		return nil
	}
	share, err := limit.Resident(files)
	if err != nil {
		return err
	}
	if share > 0.05 {
		r.res.remark("consume from disk, cold: up to %.0f %% were in the page cache all the same", share*100)
	}
	return errors.Join(read(), ctx.Err())
}

func (r *run) both(ctx context.Context, l *live) error {
	return r.on(ctx, l, l.followed(), func(topic string) error {
		a, err := l.Both(ctx, load.Produce{Topic: topic, Size: 1000, For: r.o.Time})
		if err != nil {
			return err
		}
		r.res.note(idBoth, l.name, a.Rate())
		return nil
	})
}

func (r *run) latency(ctx context.Context, l *live, id string, settings map[string]string) error {
	return r.on(ctx, l, settings, func(topic string) error {
		ts, err := l.Answer(ctx, load.Pace{Topic: topic, Size: 1000, Rate: r.o.Rate, For: r.o.Time})
		if err != nil {
			return err
		}
		for suffix, q := range map[string]float64{".p50": 0.5, ".p99": 0.99, ".p999": 0.999} {
			r.res.note(id+suffix, l.name, ts.Quantile(q))
		}
		return nil
	})
}

func (r *run) endToEnd(ctx context.Context, l *live) error {
	return r.on(ctx, l, l.followed(), func(topic string) error {
		ts, err := l.EndToEnd(ctx, load.Pace{Topic: topic, Size: 1000, Rate: r.o.EndToEndRate, For: r.o.Time})
		if err != nil {
			return err
		}
		r.res.note(idE2E, l.name, ts.Quantile(0.99))
		return nil
	})
}
