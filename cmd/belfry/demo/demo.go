package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/belfry-mq/belfry/cmd/belfry/sink"
)

// Options of a demo. Program and Out are required.
type Options struct {
	Program  string        // the belfry executable
	Out      io.Writer     // where the story is told
	Capacity int64         // bytes; storage_capacity of the node; default 100 MB, at least 50 MB
	Policy   string        // capacity policy: delete (default) or reject
	Fill     time.Duration // how long the load takes to fill the capacity; default 35 s
	Limit    time.Duration // how long the story may take; default 3 min
	Keep     string        // directory to use and to leave behind; "" = a temporary one
	Brokers  int           // nodes; from 3 on the story is another one: one of them dies. Default 1
	Calm     time.Duration // with Brokers: how long each scene stands; default 6 s
}

// Figures of the story.
const (
	defaultCapacity = 100 << 20
	minCapacity     = 50 << 20
	defaultLimit    = 3 * time.Minute
	defaultFill     = 35 * time.Second
	period          = 2 * time.Second // of sampling and rules
	lookEvery       = time.Second     // at the metrics
	summaryEvery    = 3               // looks
	keepShare       = 0.3             // of the messages, when room is made
)

type demo struct {
	o       Options
	node    *node
	load    *load
	webhook *sink.Webhook
	mailbox *sink.Mailbox
	sms     *sink.SMS
	story   *story
	turns   chan int // chapters that have begun
	begin   time.Time
	nodeEnd error // how the node's process ended; valid when all parts are over
	out     sync.Mutex
}

// Run plays the demo. Blocks: about a minute. Errors: something that had to happen did not, and what.
func Run(ctx context.Context, o Options) error {
	if o.Capacity == 0 {
		o.Capacity = defaultCapacity
	}
	if o.Capacity < minCapacity {
		return fmt.Errorf("cannot play with a capacity of %d bytes: at least %d", o.Capacity, minCapacity)
	}
	if o.Policy == "" {
		o.Policy = "delete"
	}
	if o.Fill == 0 {
		o.Fill = defaultFill
	}
	if o.Limit == 0 {
		o.Limit = defaultLimit
	}
	if o.Calm == 0 {
		o.Calm = defaultCalm
	}
	d := &demo{
		o: o, story: newStory(), turns: make(chan int, over), begin: time.Now(),
		webhook: sink.NewWebhook(nil), mailbox: sink.NewMailbox(sink.MailboxOptions{}), sms: sink.NewSMS(),
	}
	switch {
	case o.Brokers == 0 || o.Brokers == 1:
		return d.run(ctx)
	case o.Brokers < minBrokers:
		return fmt.Errorf("cannot play with %d brokers: one, or at least %d", o.Brokers, minBrokers)
	}
	return d.runCluster(ctx)
}

func (d *demo) run(ctx context.Context) error {
	dir := d.o.Keep
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "belfry-demo-"); err != nil {
			return fmt.Errorf("cannot make a directory: %w", err)
		}
		defer os.RemoveAll(dir)
	}
	if err := d.prepare(dir); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, d.o.Limit)
	defer cancel()
	parts, inner := errgroup.WithContext(limited)
	parts.Go(func() error { return d.webhook.Run(inner) })
	parts.Go(func() error { return d.mailbox.Run(inner) })
	parts.Go(func() error { return d.sms.Run(inner) })
	parts.Go(func() error {
		d.nodeEnd = d.node.run(inner)
		return d.nodeEnd
	})
	parts.Go(func() error { return d.play(inner) })
	err := parts.Wait()
	switch {
	case errors.Is(err, errOver):
		return d.verdict()
	case ctx.Err() != nil:
		return nil // interrupted
	case limited.Err() != nil:
		return fmt.Errorf("demo did not come to its end within %v; still waits for: %s", d.o.Limit, strings.Join(d.story.missing(), ", "))
	}
	return err
}

// errOver ends all parts when the story has been told.
var errOver = errors.New("over")

// prepare opens the sinks and writes the node's configuration.
func (d *demo) prepare(dir string) error {
	hook, err := d.webhook.Listen("127.0.0.1:0")
	if err != nil {
		return err
	}
	mailHost, err := d.mailbox.Listen("127.0.0.1:0")
	if err != nil {
		return err
	}
	gateway, err := d.sms.Listen("127.0.0.1:0")
	if err != nil {
		return err
	}
	settings, err := d.settings(dir, hook, mailHost, gateway)
	if err != nil {
		return err
	}
	if d.node, err = newNode(d.o.Program, dir, settings); err != nil {
		return err
	}
	d.load = &load{address: d.node.kafka, pace: int(float64(d.o.Capacity) / d.o.Fill.Seconds() / messageSize)}
	return nil
}

// play tells the story once the node is ready.
func (d *demo) play(ctx context.Context) error {
	if err := d.node.ready(ctx); err != nil {
		return err
	}
	d.print("node", "ready: Kafka at %s, metrics at http://%s/metrics", d.node.kafka, d.node.agent)
	d.print("node", "storage_capacity %d MB, capacity policy %q, period %v", d.o.Capacity>>20, d.o.Policy, period)
	if err := d.load.prepare(ctx); err != nil {
		return err
	}
	d.print("load", "%d messages/s of %d bytes into topic %q; group %q reads a third of it", d.load.pace, messageSize, topicName, groupName)
	parts, inner := errgroup.WithContext(ctx)
	parts.Go(func() error { return d.load.produce(inner) })
	parts.Go(func() error { return d.load.consume(inner) })
	parts.Go(func() error { return d.report(inner) })
	parts.Go(func() error { return d.listen(inner) })
	parts.Go(func() error { return d.direct(inner) })
	return parts.Wait()
}

// listen prints what arrives and says when a chapter begins.
func (d *demo) listen(ctx context.Context) error {
	for {
		before := d.story.chapter
		select {
		case <-ctx.Done():
			return nil
		case m := <-d.webhook.Messages():
			d.print(byWebhook, "%s", line(describeWebhook(m.Text), 150))
			d.story.hear(byWebhook, fromWebhook(m.Text)...)
		case m := <-d.mailbox.Messages():
			d.print(byMail, "to %s: %s", strings.Join(m.To, ", "), line(m.Subject, 130))
			d.story.hear(byMail, fromText(m.Subject)...)
		case m := <-d.sms.Messages():
			d.print(bySMS, "to %s: %s", strings.Join(m.To, ", "), line(m.Text, 140))
			d.story.hear(bySMS, fromText(m.Text)...)
		}
		for chapter := before + 1; chapter <= d.story.chapter; chapter++ {
			d.turns <- chapter // never waits: there is room for all chapters
		}
	}
}

// direct does what each chapter begins with.
func (d *demo) direct(ctx context.Context) error {
	for {
		var chapter int
		select {
		case <-ctx.Done():
			return nil
		case chapter = <-d.turns:
		}
		switch chapter {
		case acting:
			d.print("story", "everybody knows that the disk is past 80 %%; the load goes on")
		case relief:
			d.print("story", "everybody knows that the guard acts")
			d.rest(ctx, breath)
			d.print("story", "the load rests, the consumer catches up, and an operator makes room")
			d.load.resting.Store(true)
			gone, err := d.load.forget(ctx, keepShare)
			if err != nil && ctx.Err() == nil {
				return err
			}
			d.print("operator", "deleted the oldest %d messages of topic %q", gone, topicName)
		case over:
			d.print("story", "everybody knows that it is over")
			d.rest(ctx, breath)
			return errOver
		}
	}
}

// breath is how long a scene stands, for who looks on.
const breath = 4 * time.Second

func (d *demo) rest(ctx context.Context, t time.Duration) {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// verdict is the end: what was sent, and whether anything came twice.
func (d *demo) verdict() error {
	d.print("load", "%d messages produced, %d refused, %d consumed", d.load.sent.Load(), d.load.refused.Load(), d.load.consumed.Load())
	if d.nodeEnd != nil {
		return d.nodeEnd
	}
	if twice := d.story.twice(); len(twice) > 0 {
		return fmt.Errorf("demo heard something more than once: %s", strings.Join(twice, ", "))
	}
	d.print("story", "told in %.0f s", time.Since(d.begin).Seconds())
	return nil
}

// print writes one line with the time.
func (d *demo) print(who, format string, args ...any) {
	d.out.Lock()
	defer d.out.Unlock()
	fmt.Fprintf(d.o.Out, "%s  %-8s  %s\n", time.Now().Format("15:04:05"), who, fmt.Sprintf(format, args...))
}
