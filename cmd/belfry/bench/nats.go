package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"time"

	"github.com/belfry-mq/belfry/cmd/belfry/bench/load"
	"github.com/belfry-mq/belfry/cmd/belfry/bench/peer"
)

// natsProgram is the client, which is a program of its own.
const natsProgram = "bench-nats"

// nats is NATS in the rounds: a server for each way of flushing is started when its turn comes.
type nats struct {
	*live   // its name and what it gave up; no process
	program string
}

// newNATS gives nil where NATS does not take part.
func (r *run) newNATS(context.Context) (*nats, error) {
	if _, ok := r.spec(peer.NATS); !ok {
		return nil, nil
	}
	program, version, err := peer.Tool(r.o.Cache, natsProgram)
	if err != nil {
		return nil, fmt.Errorf("%w; `make bench` installs it", err)
	}
	r.res.remark("NATS: six subjects in one stream, published with %s, at most 4096 messages without an answer", version)
	return &nats{&live{name: peer.NATS, gaveUp: map[string]bool{}}, program}, nil
}

// natsResult is what the client prints.
type natsResult struct {
	Produced natsAmount `json:"produced"`
	Consumed natsAmount `json:"consumed"`
}

type natsAmount struct {
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"`
}

func (a natsAmount) amount() load.Amount {
	return load.Amount{Bytes: a.Bytes, Took: time.Duration(a.Seconds * float64(time.Second))}
}

// steps are what NATS does in a round.
func (n *nats) steps(r *run) (all []step) {
	flushed := func(ctx context.Context, _ *live) error {
		return n.server(ctx, r, true, func(ctx context.Context, r *run, l *live) error {
			res, err := n.load(ctx, l, r.o.Time, "-size", "1000")
			if err != nil {
				return err
			}
			r.res.note(idProduceFsync, peer.NATS, res.Produced.amount().Rate())
			return nil
		})
	}
	cached := func(ctx context.Context, _ *live) error { return n.server(ctx, r, false, n.pageCache) }
	if r.wants(sectionProduce) {
		all = append(all, step{sectionProduce, "produce and consume", cached})
	} else {
		all = append(all, step{sectionConsume, "consume", cached})
	}
	return append(all, step{sectionFsync, "fsync", flushed})
}

func (n *nats) server(ctx context.Context, r *run, flushed bool, measure func(context.Context, *run, *live) error) error {
	s, err := peer.NATSServer(r.o.Cache, flushed)
	if err != nil {
		return err
	}
	l, err := r.start(ctx, s)
	if err != nil {
		return err
	}
	defer l.Stop()
	if err := measure(ctx, r, l); err != nil {
		return fmt.Errorf("%s: %w\n%s", l.name, err, l.Said())
	}
	return nil
}

func (n *nats) pageCache(ctx context.Context, r *run, l *live) error {
	peak := l.peak()
	res, err := n.load(ctx, l, r.o.Time, "-size", "1000", "-consume")
	most := peak()
	if err != nil {
		return err
	}
	r.res.note(idProduce1K, l.name, res.Produced.amount().Rate())
	r.res.note(idConsumeTail, l.name, res.Consumed.amount().Rate())
	r.res.note(idMemoryLoad, l.name, most)
	if !r.wants(sectionProduce) {
		return nil
	}
	for _, kind := range []struct{ id, size string }{{"produce.100b", "100"}, {"produce.10k", "10000"}} {
		if res, err = n.load(ctx, l, r.o.Time, "-size", kind.size); err != nil {
			return err
		}
		r.res.note(kind.id, l.name, res.Produced.amount().Rate())
	}
	if res, err = n.load(ctx, l, r.o.Time/2, "-size", "1000", "-sync"); err != nil {
		return err
	}
	r.res.note(idProduceSingle, l.name, res.Produced.amount().Rate()*1000) // of 1 000 bytes each
	return nil
}

func (n *nats) load(ctx context.Context, l *live, d time.Duration, args ...string) (res natsResult, err error) {
	cmd := exec.CommandContext(ctx, n.program, append([]string{"-addr", l.Process.Addr, "-for", d.String()}, args...)...)
	out, err := cmd.Output()
	if err != nil {
		if e, ok := err.(*exec.ExitError); ok {
			err = fmt.Errorf("%w: %s", err, e.Stderr)
		}
		return res, fmt.Errorf("cannot run %s: %w", natsProgram, err)
	}
	if err := json.Unmarshal(out, &res); err != nil {
		return res, fmt.Errorf("cannot read what %s says: %w", natsProgram, err)
	}
	return res, nil
}
