package demo

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// figures are what the node says about itself, from its own metrics page; a figure that is absent has ok false.
type figures map[string]*dto.MetricFamily

func readFigures(page []byte) (figures, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(page))
	if err != nil {
		return nil, fmt.Errorf("cannot read metrics: %w", err)
	}
	return families, nil
}

// sum adds up the series of a metric that have the labels (name, value, …).
func (f figures) sum(name string, labels ...string) (total float64, ok bool) {
	family := f[name]
	if family == nil {
		return 0, false
	}
	for _, m := range family.Metric {
		if has(m, labels) {
			ok = true
			total += m.GetGauge().GetValue() + m.GetCounter().GetValue() + m.GetUntyped().GetValue()
		}
	}
	return total, ok
}

func has(m *dto.Metric, labels []string) bool {
	for i := 0; i+1 < len(labels); i += 2 {
		found := false
		for _, l := range m.Label {
			found = found || l.GetName() == labels[i] && l.GetValue() == labels[i+1]
		}
		if !found {
			return false
		}
	}
	return true
}

// summary is the line about the load. Nothing that is unknown is shown as 0.
func (f figures) summary() string {
	var parts []string
	add := func(format, name string, scale float64, labels ...string) {
		if v, ok := f.sum(name, labels...); ok {
			parts = append(parts, fmt.Sprintf(format, v/scale))
		}
	}
	add("%.0f messages/s in", "topic_messages_in_rate", 1, "kafka_topics", topicName)
	add("%.1f MB/s in", "topic_bytes_in_rate", 1e6, "kafka_topics", topicName)
	add("%.1f MB/s out", "topic_bytes_out_rate", 1e6, "kafka_topics", topicName)
	add("lag %.0f messages", "topic_messages_remained", 1, "kafka_topics", topicName, "kafka_groups", groupName)
	add("%.0f s behind", "belfry_group_topic_lag_seconds", 1, "kafka_topics", topicName, "kafka_groups", groupName)
	add("disk %.1f %%", "broker_disk_usage", 1)
	return strings.Join(parts, ", ")
}

// clusterSummary is the line about a cluster; "" from a node that does not speak for it.
func (f figures) clusterSummary() string {
	alive, ok := f.sum("broker_alive")
	rate, measured := f.sum("topic_messages_in_rate", "kafka_topics", topicName)
	if !ok || !measured {
		return ""
	}
	text := fmt.Sprintf("%.0f of %.0f brokers alive, %.0f messages/s in", alive, float64(len(f["broker_alive"].Metric)), rate)
	if behind, ok := f.sum("belfry_under_replicated_partitions"); ok {
		text += fmt.Sprintf(", %.0f partitions under-replicated", behind)
	}
	if lag, ok := f.sum("topic_messages_remained", "kafka_topics", topicName, "kafka_groups", groupName); ok {
		text += fmt.Sprintf(", lag %.0f messages", lag)
	}
	return text
}

// report prints the summary and what the guard did, every so often, until ctx ends.
func (d *demo) report(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var deleted float64
	refusing := false
	for look := 1; ; look++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		page, err := d.node.read(ctx, "/metrics")
		if err != nil {
			if ctx.Err() == nil {
				d.print("node", "cannot be read: %v", err)
			}
			continue
		}
		f, err := readFigures(page)
		if err != nil {
			return err
		}
		if text := f.summary(); text != "" && look%summaryEvery == 0 {
			d.print("metrics", "%s", text)
		}
		if v, ok := f.sum("belfry_guard_deleted_bytes_total"); ok && v > deleted {
			d.print("guard", "deleted the oldest %.1f MB", (v-deleted)/1e6)
			deleted = v
		}
		if v, ok := f.sum("belfry_guard_rejecting"); ok && (v > 0) != refusing {
			refusing = v > 0
			d.print("guard", "%s", map[bool]string{true: "refuses produce", false: "accepts produce again"}[refusing])
		}
		if trouble := d.load.trouble.Swap(nil); trouble != nil {
			d.print("producer", "%d messages refused so far, the last one: %s", d.load.refused.Load(), line(*trouble, 120))
		}
	}
}
