package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// longestLine is the longest message that one line of input may hold: the largest message there is.
const longestLine = 10_485_760

func messageCommand(c *client) *cobra.Command {
	return noun("message", "Produce and consume messages", messageProduce(c), messageConsume(c))
}

type produceFlags struct {
	value, key, separator string
	headers               []string
	partition             int32
	codec                 string
}

func messageProduce(c *client) *cobra.Command {
	var f produceFlags
	cmd := &cobra.Command{
		Use: "produce TOPIC", Short: "Produce a message, or one for each line of standard input", Args: exactly(1, "one topic name"),
		Example:           "  belfry message produce orders --key 17 --value paid\n  seq 1000 | belfry message produce orders",
		ValidArgsFunction: c.completeTopics,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.produce(cmd, args[0], f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.value, "value", "", "the message; not given: each line of standard input is one")
	flags.StringVar(&f.key, "key", "", "key of every message")
	flags.StringVar(&f.separator, "key-separator", "", "text that parts key and value in each line")
	flags.StringArrayVar(&f.headers, "header", nil, "header NAME=VALUE; may be given again")
	flags.Int32Var(&f.partition, "partition", -1, "partition; -1 = by the key")
	flags.StringVar(&f.codec, "compression", "none", "none, gzip, snappy, lz4 or zstd")
	completeFixed(cmd, "compression", codecNames)
	return cmd
}

var codecNames = []string{"none", "gzip", "snappy", "lz4", "zstd"}

func codec(name string) (kgo.CompressionCodec, error) {
	all := []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}
	i := slices.Index(codecNames, name)
	if i < 0 {
		return all[0], usageError{fmt.Errorf("--compression %q is unknown: want one of %s", name, strings.Join(codecNames, ", "))}
	}
	return all[i], nil
}

func (f produceFlags) template(topic string) (kgo.Record, error) {
	r := kgo.Record{Topic: topic, Partition: f.partition}
	if f.key != "" {
		r.Key = []byte(f.key)
	}
	for _, h := range f.headers {
		name, value, ok := strings.Cut(h, "=")
		if !ok {
			return r, usageError{fmt.Errorf("--header %q: want NAME=VALUE", h)}
		}
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
	}
	return r, nil
}

// refusals is how often a message may be refused before the command ends with the broker's
// reason; with the client's pauses that is about 13 s, longer than an election takes.
// Why not only a time: the error of a message that has run out of it does not say what the
// brokers answered.
const refusals = 24

// cannotProduce says why a message was not taken, and where to look when the code does not tell.
func cannotProduce(topic string, err error) error {
	if errors.Is(err, kerr.KafkaStorageError) {
		return fmt.Errorf("cannot produce to %s: %w\nA disk of a broker is at its capacity threshold or fails: `belfry alarm list` names it and says what to do", topic, err)
	}
	return fmt.Errorf("cannot produce to %s: %w", topic, err)
}

func (c *client) produce(cmd *cobra.Command, topic string, f produceFlags) error {
	codec, err := codec(f.codec)
	if err != nil {
		return err
	}
	template, err := f.template(topic)
	if err != nil {
		return err
	}
	opts := []kgo.Opt{kgo.ProducerBatchCompression(codec), kgo.ProducerBatchMaxBytes(longestLine), kgo.RecordDeliveryTimeout(2 * clientTimeout), kgo.ProducerLinger(5 * time.Millisecond),
		kgo.RecordRetries(refusals),
		// Why not at once: the broker that is asked may hear a moment later of a topic that was just made.
		kgo.UnknownTopicRetries(3), kgo.MetadataMinAge(250 * time.Millisecond)}
	if f.partition >= 0 {
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	k, err := c.connect(opts...)
	if err != nil {
		return err
	}
	defer k.Close()
	if cmd.Flags().Changed("value") {
		r := template
		r.Value = []byte(f.value)
		res := k.ProduceSync(cmd.Context(), &r)
		if err := res.FirstErr(); err != nil {
			return cannotProduce(topic, err)
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "%s partition %d offset %d\n", topic, r.Partition, r.Offset)
		return nil
	}
	return produceLines(cmd, k, template, f.separator)
}

// produceLines sends each line of standard input; it stops at the first message that is refused.
func produceLines(cmd *cobra.Command, k *kgo.Client, template kgo.Record, separator string) error {
	ctx, cancel := context.WithCancelCause(cmd.Context())
	defer cancel(nil)
	sent := 0
	lines := bufio.NewScanner(cmd.InOrStdin())
	lines.Buffer(nil, longestLine+1)
	for lines.Scan() && ctx.Err() == nil {
		r := template
		text := lines.Text()
		if separator != "" {
			key, value, ok := strings.Cut(text, separator)
			if !ok {
				cancel(fmt.Errorf("line %d has no separator %q", sent+1, separator))
				break
			}
			r.Key, text = []byte(key), value
		}
		r.Value = []byte(text)
		k.Produce(ctx, &r, func(_ *kgo.Record, err error) {
			if err != nil {
				cancel(err)
			}
		})
		sent++
	}
	if err := lines.Err(); err != nil {
		cancel(fmt.Errorf("cannot read line %d: %w", sent+1, err))
	}
	if err := k.Flush(cmd.Context()); err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil {
		return cannotProduce(template.Topic, err)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "produced %d messages to %s\n", sent, template.Topic)
	return nil
}

type consumeFlags struct {
	from, group string
	partition   int32
	count       int
	follow      bool
}

func messageConsume(c *client) *cobra.Command {
	var f consumeFlags
	cmd := &cobra.Command{
		Use: "consume TOPIC", Short: "Print messages", Args: exactly(1, "one topic name"),
		Long:              "Print messages from a position up to the end that the topic has now,\nor for ever with --follow. -o json gives one object a line.",
		Example:           "  belfry message consume orders --from beginning\n  belfry message consume orders --from 2026-05-01T12:00:00Z --count 10\n  belfry message consume orders --group audit --follow",
		ValidArgsFunction: c.completeTopics,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.consume(cmd, args[0], f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.from, "from", "beginning", "beginning, end, an offset, or a time (RFC 3339)")
	flags.Int32Var(&f.partition, "partition", -1, "only this partition; -1 = all")
	flags.StringVar(&f.group, "group", "", "consume as a member of this group and commit")
	flags.IntVar(&f.count, "count", 0, "stop after so many messages; 0 = no limit")
	flags.BoolVar(&f.follow, "follow", false, "wait for more at the end")
	return cmd
}

func parseFrom(text string) (kgo.Offset, error) {
	switch text {
	case "beginning":
		return kgo.NewOffset().AtStart(), nil
	case "end":
		return kgo.NewOffset().AtEnd(), nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 {
		return kgo.NewOffset().At(n), nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return kgo.NewOffset().AfterMilli(t.UnixMilli()), nil
	}
	return kgo.Offset{}, usageError{fmt.Errorf("--from %q: want beginning, end, an offset of 0 or more, or a time such as 2026-05-01T12:00:00Z", text)}
}

func (c *client) consume(cmd *cobra.Command, topic string, f consumeFlags) error {
	from, err := parseFrom(f.from)
	if err != nil {
		return err
	}
	var ends map[int32]int64
	err = c.withAdmin(cmd.Context(), func(ctx context.Context, a *kadm.Client) error {
		ends, err = endOffsets(ctx, a, topic, f.partition)
		return err
	})
	if err != nil {
		return err
	}
	opts := []kgo.Opt{kgo.FetchMaxWait(500 * time.Millisecond)}
	switch {
	case f.group != "":
		opts = append(opts, kgo.ConsumerGroup(f.group), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(from), kgo.DisableAutoCommit())
	default:
		parts := map[int32]kgo.Offset{}
		for p := range ends {
			parts[p] = from
		}
		opts = append(opts, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: parts}))
	}
	k, err := c.connect(opts...)
	if err != nil {
		return err
	}
	defer k.Close()
	if f.group != "" {
		defer k.LeaveGroup()
	}
	return c.print(cmd, k, f, ends)
}

func endOffsets(ctx context.Context, a *kadm.Client, topic string, only int32) (map[int32]int64, error) {
	os, err := a.ListEndOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	ends := map[int32]int64{}
	for _, o := range os[topic] {
		if o.Err != nil {
			return nil, fmt.Errorf("%s: %w", topic, o.Err)
		}
		if only < 0 || o.Partition == only {
			ends[o.Partition] = o.Offset
		}
	}
	if len(ends) == 0 {
		return nil, fmt.Errorf("topic %s has no partition %d", topic, only)
	}
	return ends, nil
}

// quiet is how long a group member that follows nothing waits for a message before it ends.
const quiet = 10 * time.Second

// print writes messages until the count is reached or, unless following, each partition's end of
// the start has been passed.
func (c *client) print(cmd *cobra.Command, k *kgo.Client, f consumeFlags, ends map[int32]int64) error {
	printed := 0
	left := map[int32]bool{}
	for p, end := range ends {
		if end > 0 {
			left[p] = true
		}
	}
	out := bufio.NewWriter(cmd.OutOrStdout())
	defer out.Flush()
	for f.follow || len(left) > 0 {
		ctx, cancel := cmd.Context(), context.CancelFunc(func() {})
		if !f.follow {
			ctx, cancel = context.WithTimeout(ctx, quiet)
		}
		fetches := k.PollRecords(ctx, 1000)
		cancel()
		if err := fetches.Err0(); errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			return nil
		}
		if errs := fetches.Errors(); len(errs) > 0 {
			return fmt.Errorf("cannot consume %s: %w", errs[0].Topic, errs[0].Err)
		}
		for _, r := range fetches.Records() {
			if !f.follow && r.Offset >= ends[r.Partition] || f.partition >= 0 && r.Partition != f.partition {
				delete(left, r.Partition)
				continue
			}
			if err := c.printRecord(out, r); err != nil {
				return err
			}
			if r.Offset >= ends[r.Partition]-1 {
				delete(left, r.Partition)
			}
			printed++
			if f.group != "" {
				k.MarkCommitRecords(r)
			}
			if f.count > 0 && printed >= f.count {
				return commitPrinted(cmd.Context(), k, f, r)
			}
		}
		if err := out.Flush(); err != nil {
			return err
		}
		if err := commitPrinted(cmd.Context(), k, f, fetches.Records()...); err != nil {
			return err
		}
	}
	return nil
}

// commitPrinted commits what has been printed, and only that.
func commitPrinted(ctx context.Context, k *kgo.Client, f consumeFlags, rs ...*kgo.Record) error {
	if f.group == "" || len(rs) == 0 {
		return nil
	}
	return k.CommitRecords(ctx, rs...)
}

type messageBody struct {
	Topic     string            `json:"topic"`
	Partition int32             `json:"partition"`
	Offset    string            `json:"message_offset"`
	Timestamp string            `json:"timestamp"`
	Key       *string           `json:"key"`
	Value     *string           `json:"value"`
	Headers   map[string]string `json:"headers,omitempty"`
}

func (c *client) printRecord(w io.Writer, r *kgo.Record) error {
	if c.output == "table" {
		_, err := fmt.Fprintf(w, "%s\n", r.Value)
		return err
	}
	b := messageBody{Topic: r.Topic, Partition: r.Partition, Offset: strconv.FormatInt(r.Offset, 10), Timestamp: r.Timestamp.UTC().Format(time.RFC3339Nano), Key: text(r.Key), Value: text(r.Value)}
	for _, h := range r.Headers {
		if b.Headers == nil {
			b.Headers = map[string]string{}
		}
		b.Headers[h.Key] = string(h.Value)
	}
	if c.output == "json" {
		return json.NewEncoder(w).Encode(b)
	}
	key := "-"
	if b.Key != nil {
		key = *b.Key
	}
	_, err := fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", b.Partition, b.Offset, b.Timestamp, key, r.Value)
	return err
}

func text(b []byte) *string {
	if b == nil {
		return nil
	}
	s := string(b)
	return &s
}
