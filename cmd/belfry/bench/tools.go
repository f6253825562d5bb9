package bench

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/belfry-mq/belfry/cmd/belfry/bench/peer"
)

// toolRate is how many messages of 1 KB a second of measurement Kafka's tools get. They take a
// number of messages, not a time.
const toolRate = 150_000

// tools is the second opinion: Kafka's own load generators against the same topics.
func (r *run) tools(ctx context.Context, l *live) error {
	if _, ok := r.spec(peer.Kafka); !ok || l.name == peer.Klite {
		return nil
	}
	return r.on(ctx, l, l.pageCache(), func(topic string) error {
		rate, err := r.produceTool(ctx, l, topic)
		if err != nil {
			return err
		}
		r.res.note(idProduceTool, l.name, rate)
		if l.name == peer.Null {
			return nil // it has no groups
		}
		if rate, err = r.consumeTool(ctx, l, topic); err != nil {
			return err
		}
		r.res.note(idConsumeTool, l.name, rate)
		return nil
	})
}

// toolMessages is how many messages a tool gets, with those of its warm-up.
func (r *run) toolMessages() int { return int(r.o.Time.Seconds()*toolRate) * 3 / 2 }

func (r *run) produceTool(ctx context.Context, l *live, topic string) (float64, error) {
	n := r.toolMessages()
	out, err := peer.KafkaTool(ctx, r.o.Cache, "org.apache.kafka.tools.ProducerPerformance",
		"--bootstrap-server", l.Process.Addr, "--topic", topic, "--num-records", strconv.Itoa(n), "--warmup-records", strconv.Itoa(n/3),
		"--record-size", "1000", "--throughput", "-1", "--command-property", "acks=all")
	if err != nil {
		return 0, err
	}
	return producerPerf(out)
}

func (r *run) consumeTool(ctx context.Context, l *live, topic string) (float64, error) {
	out, err := peer.KafkaTool(ctx, r.o.Cache, "org.apache.kafka.tools.ConsumerPerformance",
		"--bootstrap-server", l.Process.Addr, "--topic", topic, "--num-records", strconv.Itoa(r.toolMessages()))
	if err != nil {
		return 0, err
	}
	return consumerPerf(out)
}

// mebi is the tools' MB in ours.
const mebi = float64(1<<20) / 1e6

var producerLine = regexp.MustCompile(`records sent, [0-9.]+ records/sec \(([0-9.]+) MB/sec\).* 99\.9th`)

// producerPerf reads the last summary of kafka-producer-perf-test: that after the warm-up.
func producerPerf(out string) (float64, error) {
	all := producerLine.FindAllStringSubmatch(out, -1)
	if len(all) == 0 {
		return 0, fmt.Errorf("cannot read what kafka-producer-perf-test says: %s", out)
	}
	v, err := strconv.ParseFloat(all[len(all)-1][1], 64)
	return v * mebi, err
}

// consumerPerf reads the table of kafka-consumer-perf-test: the rate without the time in which
// the group forms.
func consumerPerf(out string) (float64, error) {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for i, head := range lines[:len(lines)-1] {
		names := strings.Split(head, ", ")
		cells := strings.Split(lines[i+1], ", ")
		for k, name := range names {
			if strings.TrimSpace(name) == "fetch.MB.sec" && k < len(cells) {
				v, err := strconv.ParseFloat(strings.TrimSpace(cells[k]), 64)
				return v * mebi, err
			}
		}
	}
	return 0, fmt.Errorf("cannot read what kafka-consumer-perf-test says: %s", out)
}
