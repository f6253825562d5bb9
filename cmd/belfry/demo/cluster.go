package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/belfry-mq/belfry/cmd/belfry/local"
	"github.com/belfry-mq/belfry/cmd/belfry/sink"
)

// Figures of the story of a cluster.
const (
	aliveAlarm   = "broker_alive"
	minBrokers   = 3
	defaultCalm  = 6 * time.Second // of load before the kill, and after everything is well again
	clusterPace  = 500             // messages a second
	downLimit    = 90 * time.Second
	defaultShare = 2 // min.insync.replicas
)

// clusterDemo is the story of several nodes, one of which dies.
type clusterDemo struct {
	*demo
	cluster *local.Cluster
	ledger  *ledger
	victim  int
	heard   map[notice]int // at the webhook
	advice  string         // of the alarm
}

// runCluster plays it: load, the death of the node that leads the cluster, the alarm, the remedy, and every
// message read back.
func (d *demo) runCluster(ctx context.Context) (err error) {
	dir := d.o.Keep
	if dir == "" {
		if dir, err = os.MkdirTemp("", "belfry-demo-"); err != nil {
			return fmt.Errorf("cannot make a directory: %w", err)
		}
		defer os.RemoveAll(dir)
	}
	c := &clusterDemo{demo: d, heard: map[notice]int{}}
	if c.cluster, err = local.Open(filepath.Join(dir, "cluster"), d.o.Program, true); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.cluster.Close()) }()
	c.cluster.Anywhere()
	limited, cancel := context.WithTimeout(ctx, d.o.Limit)
	defer cancel()
	hook, err := d.webhook.Listen("127.0.0.1:0")
	if err != nil {
		return err
	}
	parts, inner := errgroup.WithContext(limited)
	parts.Go(func() error { return d.webhook.Run(inner) })
	parts.Go(func() error {
		// Why not limited: the nodes are to end, however the story did.
		defer func() {
			soft, cancel := context.WithTimeout(context.WithoutCancel(ctx), downLimit)
			defer cancel()
			err = errors.Join(err, c.cluster.Down(soft, d.o.Keep == ""))
		}()
		return c.play(inner, dir, hook)
	})
	if playErr := parts.Wait(); !errors.Is(playErr, errOver) {
		switch {
		case ctx.Err() != nil:
			return nil // interrupted
		case limited.Err() != nil:
			return fmt.Errorf("demo did not come to its end within %v: %w", d.o.Limit, playErr)
		}
		return playErr
	}
	return err
}

// play tells the story; it ends with errOver.
func (c *clusterDemo) play(ctx context.Context, dir, hook string) error {
	rules := filepath.Join(dir, "rules.yaml")
	if err := os.WriteFile(rules, []byte(rulesFile), 0o600); err != nil {
		return fmt.Errorf("cannot write rules: %w", err)
	}
	begin := time.Now()
	err := c.cluster.Up(ctx, c.o.Brokers, map[string]string{
		"agent.period": fmt.Sprintf("%ds", period/time.Second), "alarm.rules": rules, "notify.webhook.url": hook,
		"group.initial.rebalance.delay.ms": "0",
	})
	if err != nil {
		return err
	}
	at := c.cluster.Bootstrap()
	c.print("cluster", "%d nodes are ready after %.1f s: Kafka at %v", len(at), time.Since(begin).Seconds(), at)
	c.ledger = newLedger(at)
	if err := c.ledger.prepare(ctx); err != nil {
		return err
	}
	c.print("load", "%d messages/s of %d bytes into topic %q, %d replicas, min.insync.replicas %d, acks=all; group %q reads along",
		clusterPace, ledgerSize, topicName, minBrokers, defaultShare, groupName)
	return c.perform(ctx)
}

// perform runs the load around the scenes.
func (c *clusterDemo) perform(ctx context.Context) error {
	loadCtx, stopLoad := context.WithCancel(ctx)
	defer stopLoad()
	var stopping atomic.Bool
	parts, inner := errgroup.WithContext(loadCtx)
	parts.Go(func() error { return c.ledger.produce(inner, &stopping) })
	parts.Go(func() error { return c.ledger.consume(inner) })
	parts.Go(func() error { return c.report(inner) })
	scenes := c.scenes(inner)
	stopping.Store(true)
	if scenes == nil {
		scenes = c.ledger.awaitAnswers(ctx)
	}
	stopLoad()
	if err := parts.Wait(); err != nil && ctx.Err() == nil {
		return err
	}
	if scenes != nil {
		return scenes
	}
	return c.readBack(ctx)
}

// scenes are what happens while the load goes on.
func (c *clusterDemo) scenes(ctx context.Context) error {
	if err := c.calm(ctx); err != nil {
		return err
	}
	leads, controller, err := c.ledger.leads(ctx)
	if err != nil {
		return err
	}
	c.victim = controller
	what := "leads the cluster"
	if !slices.Contains(c.ids(ctx), c.victim) {
		c.victim, what = 1, "is one of them"
	}
	c.print("story", "kill -9 of node %d, which %s and %d of %d partitions", c.victim, what, leads[c.victim], ledgerPartitions)
	c.ledger.longest.Store(0)
	if err := c.cluster.Kill(ctx, c.victim); err != nil {
		return err
	}
	if err := c.await(ctx, notice{rule: aliveAlarm}); err != nil {
		return err
	}
	c.print("load", "%d errors at the producer; its longest wait for an answer was %.2f s", c.ledger.failed.Load(), time.Duration(c.ledger.longest.Load()).Seconds())
	c.print("remedy", "%s", line(c.advice, 240))
	if err := c.calm(ctx); err != nil {
		return err
	}
	begin := time.Now()
	if err := c.cluster.Restart(ctx, c.victim); err != nil {
		return err
	}
	c.print("operator", "started node %d again: ready after %.1f s", c.victim, time.Since(begin).Seconds())
	if err := c.await(ctx, notice{aliveAlarm, true}); err != nil {
		return err
	}
	return c.calm(ctx)
}

func (c *clusterDemo) ids(ctx context.Context) []int {
	var ids []int
	for _, s := range c.cluster.Status(ctx) {
		ids = append(ids, s.ID)
	}
	return ids
}

// calm lets a scene stand while what arrives is heard.
func (c *clusterDemo) calm(ctx context.Context) error {
	timer := time.NewTimer(c.o.Calm)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
			return nil
		case m := <-c.webhook.Messages():
			c.hear(m)
		}
	}
}

// await waits until a notice has arrived.
func (c *clusterDemo) await(ctx context.Context, n notice) error {
	for c.heard[n] == 0 {
		select {
		case <-ctx.Done():
			return fmt.Errorf("cannot wait longer for %s: %w", n, context.Cause(ctx))
		case m := <-c.webhook.Messages():
			c.hear(m)
		}
	}
	return nil
}

func (c *clusterDemo) hear(m sink.Message) {
	c.print(byWebhook, "%s", line(describeWebhook(m.Text), 150))
	for _, n := range fromWebhook(m.Text) {
		c.heard[n]++
	}
	if advice := adviceOf(m.Text, aliveAlarm); advice != "" {
		c.advice = advice
	}
}

// report prints what the agents measure, until ctx ends. Whichever node speaks for the cluster has it.
func (c *clusterDemo) report(ctx context.Context) error {
	tick := time.NewTicker(summaryEvery * lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for i, at := range c.cluster.Agents() {
			page, err := fetch(ctx, at, "/metrics")
			if err != nil {
				continue // it is dead, or busy
			}
			f, err := readFigures(page)
			if err != nil {
				return err
			}
			if text := f.clusterSummary(); text != "" {
				c.print("metrics", "node %d says: %s", i+1, text)
				break
			}
		}
	}
}

// readBack reads everything and compares it with what was acknowledged.
func (c *clusterDemo) readBack(ctx context.Context) error {
	c.print("story", "the load has stopped; everything is read back")
	found, err := c.ledger.readBack(ctx)
	if err != nil {
		return err
	}
	acknowledged, lost, twice := c.ledger.compare(found)
	c.print("ledger", "%d messages acknowledged, %d read back: %d lost, %d twice; %d errors at the producer",
		acknowledged, len(found), lost, twice, c.ledger.failed.Load())
	if lost+twice > 0 || c.ledger.failed.Load() > 0 {
		return fmt.Errorf("demo: of %d acknowledged messages %d are lost and %d are there twice; %d were refused", acknowledged, lost, twice, c.ledger.failed.Load())
	}
	for _, n := range []notice{{rule: aliveAlarm}, {aliveAlarm, true}} {
		if c.heard[n] != 1 {
			return fmt.Errorf("demo heard %s %d times, want once", n, c.heard[n])
		}
	}
	c.print("story", "told in %.0f s", time.Since(c.begin).Seconds())
	return errOver
}
