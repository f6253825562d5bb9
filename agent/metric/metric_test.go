package metric

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/belfry-mq/belfry/broker/golden"
)

// TestCatalogGolden fails when a metric's name, unit, range or label changes by accident: dashboards and rules of users hang on them.
func TestCatalogGolden(t *testing.T) {
	var b strings.Builder
	for _, m := range Catalog() {
		kind := "gauge"
		switch {
		case m.Counter:
			kind = "counter"
		case m.Histogram:
			kind = "histogram"
		}
		limit := "-"
		if m.Max > 0 {
			limit = fmt.Sprintf("%.0f..%.0f", m.Min, m.Max)
		}
		if m.Grows {
			limit += "+"
		}
		where := "snapshot"
		if m.Live {
			where = "live"
		}
		fmt.Fprintf(&b, "%s|%s|%s|%s|%s|%s|%s|%s\n", m.Group, m.ID, kind, m.Unit, limit, strings.Join(m.Labels, ","), where, m.Help)
	}
	golden.Match(t, "testdata/catalog.golden", b.String())
}

// TestReference keeps METRICS.md, which people read, as the catalogue is.
func TestReference(t *testing.T) {
	golden.Match(t, "METRICS.md", reference())
}

func reference() string {
	var b strings.Builder
	b.WriteString(`# Metrics

Every series carries ` + "`kafka_instance_id`" + `; the column *labels* lists what else it carries. The documented
metrics and those of our own marked *each period* are sampled once a period (1 minute by default) and describe the
period that just ended; rules can watch them. Those marked *live* are counted all the time and read when they are
scraped, so that ` + "`rate()`" + ` and quantiles work at any resolution.

A reading that is missing is absent, never 0. Instance, topic and group series come from exactly one node at a time.
Topics and groups whose name begins with ` + "`_`" + ` or ` + "`#`" + ` are left out unless internal names are asked for.

This file is made from the catalogue (` + "`catalog.go`" + `).
`)
	titles := map[string]string{GroupInstance: "Instance", GroupBroker: "Broker", GroupTopic: "Topic", GroupConsumer: "Consumer group", GroupOwn: "Our own"}
	group := ""
	for _, m := range Catalog() {
		if m.Group != group {
			group = m.Group
			fmt.Fprintf(&b, "\n## %s\n\n| name | meaning | unit | range | labels | kind |\n| --- | --- | --- | --- | --- | --- |\n", titles[group])
		}
		limit, labels, kind := "", "–", "gauge"
		if m.Max > 0 {
			limit = fmt.Sprintf("%.0f–%.0f", m.Min, m.Max)
		}
		if m.Grows {
			limit += ", more with the flavor"
		}
		if len(m.Labels) > 0 {
			labels = "`" + strings.Join(m.Labels, "`, `") + "`"
		}
		if m.Open {
			labels += " and those of its object"
		}
		switch {
		case m.Counter:
			kind = "counter"
		case m.Histogram:
			kind = "histogram"
		}
		when := "each period"
		if m.Live {
			when = "live"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s, %s |\n", m.ID, m.Help, m.Unit, limit, labels, kind, when)
	}
	return b.String()
}

func TestCatalogIsWellFormed(t *testing.T) {
	seen := map[ID]bool{}
	own := false
	for _, m := range Catalog() {
		if seen[m.ID] {
			t.Errorf("%s is there twice", m.ID)
		}
		seen[m.ID] = true
		if own && m.Group != GroupOwn {
			t.Errorf("%s is documented but comes after our own metrics", m.ID)
		}
		own = m.Group == GroupOwn
		if !slices.IsSorted(m.Labels) {
			t.Errorf("%s has labels out of order: %v", m.ID, m.Labels)
		}
		if m.Help == "" || m.Unit == "" || !strings.HasSuffix(m.Help, ".") {
			t.Errorf("%s lacks help or unit", m.ID)
		}
		if own {
			if !strings.HasPrefix(string(m.ID), "belfry_") {
				t.Errorf("%s lacks our prefix", m.ID)
			}
			if m.Counter != strings.HasSuffix(string(m.ID), "_total") {
				t.Errorf("%s: counters, and only they, end in _total", m.ID)
			}
		}
		if got, ok := Lookup(m.ID); !ok || got.ID != m.ID {
			t.Errorf("cannot look up %s", m.ID)
		}
	}
	if _, ok := Lookup("nothing"); ok {
		t.Error("found a metric that is not there")
	}
}

func TestFits(t *testing.T) {
	for _, c := range []struct {
		sample Sample
		ok     bool
	}{
		{Sample{ID: CurrentTopics}, true},
		{Sample{ID: CurrentTopics, Labels: Labels(LabelBroker, "0")}, false},
		{Sample{ID: MessagesRemained, Labels: Labels(LabelGroup, "g", LabelTopic, "t", LabelPartition, "0")}, true},
		{Sample{ID: MessagesRemained, Labels: Labels(LabelGroup, "g", LabelTopic, "t")}, false},
		{Sample{ID: MessagesRemained, Labels: []Label{{LabelTopic, "t"}, {LabelPartition, "0"}, {LabelGroup, "g"}}}, false},
		{Sample{ID: AlarmState, Labels: Labels(LabelRule, "r", LabelSeverity, "major", LabelTopic, "t")}, true},
		{Sample{ID: AlarmState, Labels: Labels(LabelRule, "r", LabelTopic, "t")}, false},
		{Sample{ID: "belfry_connections", Labels: Labels(LabelBroker, "0", "listener", "l")}, false}, // live
		{Sample{ID: AgentUp}, true}, // of a sidecar
		{Sample{ID: BrokerAlive}, false},
		{Sample{ID: PartSkips, Labels: Labels(LabelPart, "p")}, true},
		{Sample{ID: "nothing"}, false},
	} {
		if err := Fits(c.sample); (err == nil) != c.ok {
			t.Errorf("%v: %v", c.sample, err)
		}
	}
}

func TestSnapshotOf(t *testing.T) {
	a := Sample{ID: "a", Value: 1}
	b1 := Sample{ID: "b", Labels: Labels(LabelTopic, "t", LabelGroup, "g"), Value: 2}
	b2 := Sample{ID: "b", Labels: Labels(LabelTopic, "u", LabelGroup, "g"), Value: 3}
	again := Sample{ID: "b", Labels: Labels(LabelGroup, "g", LabelTopic, "t"), Value: 9}
	samples, dropped := Arrange([]Sample{b2, b1, a, again})
	if dropped != 1 || len(samples) != 3 {
		t.Fatalf("got %d samples and %d dropped, want 3 and 1", len(samples), dropped)
	}
	s := &Snapshot{Samples: samples}
	for _, c := range []struct {
		id   ID
		want []float64
	}{{"a", []float64{1}}, {"b", []float64{2, 3}}, {"", nil}, {"aa", nil}, {"c", nil}} {
		var got []float64
		for _, x := range s.Of(c.id) {
			got = append(got, x.Value)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("Of(%q) = %v, want %v", c.id, got, c.want)
		}
	}
	if got := s.Of("b")[0].Label(LabelGroup); got != "g" {
		t.Errorf("label = %q, want g", got)
	}
	if got := s.Of("b")[0].Label("none"); got != "" {
		t.Errorf("label = %q, want none", got)
	}
	if extended := append(s.Of("a"), Sample{ID: "z"}); len(extended) != 2 || s.Samples[1].ID != "b" {
		t.Error("appending to what Of gave wrote into the snapshot")
	}
}
