package truth

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/broker/brokertest/port"
	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

const (
	period      = time.Second
	memoryLimit = 1 << 30 // GOMEMLIMIT of the node
	steadyTicks = 10      // periods of even traffic
)

// Kafka's keys of the two APIs that have a documented mean.
const (
	keyProduce int16 = 0
	keyFetch   int16 = 1
)

// verdict remembers which metrics were compared with the truth.
type verdict struct {
	t    *testing.T
	done map[metric.ID]bool
}

// compared notes that a metric was held against the truth; ok is whether there was anything
// to compare.
func (v *verdict) compared(id metric.ID, ok bool, why string) {
	v.t.Helper()
	if !ok {
		v.t.Errorf("%s could not be compared: %s", id, why)
	}
	v.done[id] = true
}

// complete fails for every documented metric that nobody compared.
func (v *verdict) complete() {
	v.t.Helper()
	n := 0
	for _, m := range metric.Catalog() {
		if m.Group == metric.GroupOwn {
			continue
		}
		n++
		if !v.done[m.ID] {
			v.t.Errorf("%s is documented and was compared with nothing", m.ID)
		}
	}
	if n < 30 {
		v.t.Errorf("the catalogue documents %d metrics only", n)
	}
}

// world is one node, who watches it and what clients did.
type world struct {
	*verdict
	*watch
	l *ledger
}

func begin(t *testing.T) (*world, map[string]string) {
	t.Helper()
	n := nodetest.New(t, nodetest.Options{Env: []string{fmt.Sprintf("GOMEMLIMIT=%d", memoryLimit)}})
	public := port.Addr(t)
	settings := map[string]string{
		"listeners":                        "PLAINTEXT://" + n.Kafka + ",PUBLIC://" + public,
		"agent.period":                     period.String(),
		"group.initial.rebalance.delay.ms": "0",
	}
	n.WriteConfig(settings)
	n.Launch()
	n.WaitReady()
	w := &world{verdict: &verdict{t: t, done: map[metric.ID]bool{}}, watch: follow(t, n)}
	w.l = open(t, n.Kafka, public)
	return w, settings
}

// TestEveryDocumentedMetricIsTrue does to a real node what users do and holds every metric of
// the documented set against what clients produced, consumed and committed, against the files
// on the disk, and against what the machine says.
func TestEveryDocumentedMetricIsTrue(t *testing.T) {
	w, settings := begin(t)
	first := w.next(1)
	w.steady(first)
	w.exact()
	w.connections()
	w.sizes()
	w.linted()
	w.machine(w.since(first), w.readings())
	w.ghosts()
	w.internal(settings)
	w.always()
	w.complete()
}

// t of the world is that of its verdict.
func (w *world) test() *testing.T { return w.verdict.t }

// steady sends and reads evenly for some periods, over both listeners, and adds rates up.
//
// Why evenly: a rate is over the collector's own time between two readings, which differs
// from the period's by as much as this machine was late. With even traffic what one period
// has too much the next has too little.
func (w *world) steady(first *page) {
	t, l := w.test(), w.l
	l.create("steady", 2)
	var sent int
	producer := l.connect(kgo.NoCompression())
	over := func(o ...kgo.Opt) *kgo.Client {
		return l.connect(kgo.NoCompression(), append(o, kgo.ConsumeTopics("steady"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	}
	pub := func() kgo.Opt {
		return kgo.Dialer(func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := l.wires.dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &counted{Conn: c, w: l.pub}, nil
		})
	}
	guest := over(kgo.SeedBrokers(l.public), pub())
	readers := []*kgo.Client{over(), guest}
	var got []*tally
	for _, c := range readers {
		got = append(got, count(t, c))
	}
	pace := time.NewTicker(25 * time.Millisecond)
	defer pace.Stop()
	for from := len(w.pages()); len(w.pages()) < from+steadyTicks; {
		<-pace.C
		l.produce(producer, "steady", 0, 5)
		l.produce(guest, "steady", 1, 2)
		sent += 7
	}
	for _, reader := range got {
		w.eventually("a reader at the end", func() string { return differs("messages read", float64(reader.n.Load()), float64(sent)) })
	}
	w.settled(sent)
	r := w.since(first)
	w.moved(r, sent)
	w.means(r)
}

// moved compares counters exactly, and rates added up when no period is missing.
func (w *world) moved(r run, sent int) {
	t := w.test()
	t.Helper()
	last := r.pages[len(r.pages)-1]
	bytes := float64(w.logBytes("steady"))
	in, out := float64(w.l.pub.in.Load()), float64(w.l.pub.out.Load())
	const steady = "kafka_topics=steady"
	if r.whole != "" {
		t.Logf("this machine is too busy to sample each second: %s rates are not added up, the counters of the same readings stand for them", r.whole)
	}
	for _, c := range []struct {
		id     metric.ID
		labels string
		want   float64
	}{
		{metric.BrokerMessagesInRate, "", float64(sent)},
		{metric.TopicMessagesInRate, steady, float64(sent)},
		{metric.BrokerBytesInRate, "", bytes},
		{metric.TopicBytesInRate, steady, bytes},
		{metric.BrokerBytesOutRate, "", 2 * bytes}, // two readers
		{metric.TopicBytesOutRate, steady, 2 * bytes},
		{metric.BrokerPublicBytesInRate, "", in},
		{metric.BrokerPublicBytesOutRate, "", out},
	} {
		_, there := last.value(c.id, c.labels)
		w.compared(c.id, there, "absent")
		if sum := r.moved(c.id, c.labels); r.whole == "" && math.Abs(sum-c.want) > c.want/5 {
			t.Errorf("%s adds up to %v over %d periods, clients moved %v", c.id, sum, len(r.pages), c.want)
		}
	}
}

// settled waits until the live counters, which know no period, are exactly what clients moved.
func (w *world) settled(sent int) {
	t := w.test()
	t.Helper()
	bytes := float64(w.logBytes("steady"))
	if payload := float64(sent * 400); bytes < payload || bytes > payload*1.5 {
		t.Errorf("%d messages of 400 bytes take %v bytes on the disk", sent, bytes)
	}
	w.eventually("counters of what was moved", func() string {
		in, out := w.l.pub.in.Load(), w.l.pub.out.Load()
		p := w.now()
		wrong := ""
		for _, c := range []struct {
			id     metric.ID
			labels string
			want   float64
		}{
			{"belfry_in_messages_total", "", float64(sent)},
			{"belfry_topic_in_messages_total", "kafka_topics=steady", float64(sent)},
			{"belfry_in_bytes_total", "", bytes},
			{"belfry_topic_in_bytes_total", "kafka_topics=steady", bytes},
			{"belfry_out_bytes_total", "", 2 * bytes},
			{"belfry_topic_out_bytes_total", "kafka_topics=steady", 2 * bytes},
			{"belfry_listener_in_bytes_total", "listener=PUBLIC", float64(in)},
			{"belfry_listener_out_bytes_total", "listener=PUBLIC", float64(out)},
		} {
			got, _ := p.value(c.id, c.labels)
			wrong += differs(string(c.id), got, c.want)
		}
		return wrong
	})
	w.next(3) // the last rates of what was moved are told
}

// means holds the broker's times against the clients' own: it cannot have taken longer.
func (w *world) means(r run) {
	t := w.test()
	t.Helper()
	p := w.now()
	client := w.l.times.of(keyProduce)
	n, sum := p.histogram("belfry_request_duration_seconds", "Produce")
	if int(n) != client.n || sum*1000 > client.sum {
		t.Errorf("the broker answered %v produce requests in %v ms, clients had %d in %v ms", n, sum*1000, client.n, client.sum)
	}
	fetches, fetchSum := p.histogram("belfry_request_duration_seconds", "Fetch")
	for _, c := range []struct {
		id     metric.ID
		key    int16
		mean   float64 // over all, ms
		margin float64 // of what is not in both
	}{
		{metric.BrokerProduceMean, keyProduce, sum * 1000 / n, 1},
		{metric.BrokerFetchMean, keyFetch, fetchSum * 1000 / fetches, 1.5}, // idle fetches go on after the last period
	} {
		all := r.values(c.id)
		w.compared(c.id, len(all) > steadyTicks/2, fmt.Sprintf("there in %d of %d periods", len(all), len(r.pages)))
		if len(all) == 0 {
			continue
		}
		low, high, longest := slices.Min(all), slices.Max(all), w.l.times.of(c.key).longest
		if low <= 0 || high > longest {
			t.Errorf("%s is %v to %v ms, no client waited longer than %v ms", c.id, low, high, longest)
		}
		if r.whole == "" && (c.mean < low/c.margin*.999 || c.mean > high*c.margin*1.001) {
			t.Errorf("%s is %v to %v ms, the histogram says %v ms over all", c.id, low, high, c.mean)
		}
	}
}

// exact makes topics, groups and commits of every kind and compares all that follows exactly.
func (w *world) exact() {
	l := w.l
	l.create("orders", 3)
	l.create("events", 1)
	l.create("scraps", 1)
	l.create("_hidden", 1)
	for i, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()} {
		c := l.connect(codec)
		for p := range int32(3) {
			l.produce(c, "orders", p, 40+10*int(p)+i)
		}
	}
	l.produce(l.client, "events", 0, 70)
	l.produce(l.client, "scraps", 0, 25)
	l.produce(l.client, "_hidden", 0, 30)
	l.consume("bill", "orders", "events")
	l.produce(l.client, "orders", 0, 15) // a lag that stays though all members have left
	l.commit("mail", "orders", 0, 37)
	l.commit("mail", "orders", 2, 11)
	l.commit("mail", "_hidden", 0, 10)
	l.commit("late", "orders", 1, 5)
	l.deleteBefore("orders", 1, 20) // what the group has not consumed is gone
	l.commit("gone", "scraps", 0, 3)
	l.commit("gone", "events", 0, 3)
	l.commit("_tool", "orders", 0, 1)
	l.commit("#tool", "events", 0, 2)
	w.agree(false)
}

// agree waits until the node shows exactly what follows from what clients did, no series
// more and none less.
func (w *world) agree(internal bool) {
	w.test().Helper()
	facts := w.l.facts(internal)
	w.eventually("what clients did is what the node shows", func() string {
		all := w.pages()
		p := all[len(all)-1]
		wrong := ""
		for id, want := range facts {
			got := p.series(id)
			if internal { // the broker's own topic is shown as well; nobody but it knows what it holds
				maps.DeleteFunc(got, func(labels string, _ float64) bool {
					return strings.Contains(labels, "kafka_topics=__consumer_offsets")
				})
			}
			if !maps.Equal(got, want) {
				wrong += fmt.Sprintf("%s is %v, want %v\n", id, got, want)
			}
		}
		if v, ok := p.value(metric.BrokerAlive, ""); !ok || v != 1 {
			wrong += fmt.Sprintf("broker_alive is %v (%v)\n", v, ok)
		}
		return wrong
	})
	for id := range facts {
		w.compared(id, true, "")
	}
	w.compared(metric.BrokerAlive, true, "")
}

// connections opens and closes some and compares exactly.
func (w *world) connections() {
	l := w.l
	hold := func(what string) {
		w.eventually(what, func() string {
			all := w.pages()
			p := all[len(all)-1]
			before := l.wires.open.Load()
			v, ok := p.value(metric.BrokerConnections, "")
			if live := w.now().series("belfry_connections"); live["listener=PLAINTEXT"]+live["listener=PUBLIC"] != float64(before) {
				return fmt.Sprintf("live: %v, clients have %d", live, before)
			}
			if !ok {
				return "absent"
			}
			return differs("broker_connections", v, float64(before))
		})
	}
	hold("connections of clients")
	var own []net.Conn
	for i := range 25 {
		address := l.plain
		if i%5 == 0 {
			address = l.public
		}
		c, err := l.wires.dial(w.test().Context(), "tcp", address)
		l.must(err)
		own = append(own, c)
	}
	hold("25 connections more")
	for _, c := range own[:10] {
		c.Close()
	}
	hold("10 connections less")
	for _, c := range own[10:] {
		c.Close()
	}
	hold("all of them gone")
	w.compared(metric.BrokerConnections, true, "")
}

// logBytes sums the lengths of the log files of a topic; of all topics for "".
func (w *world) logBytes(topic string) int64 {
	w.test().Helper()
	id := ""
	if topic != "" {
		m, err := w.l.admin.Metadata(w.test().Context(), topic)
		w.l.must(err)
		d := m.Topics[topic]
		id = base64.RawURLEncoding.EncodeToString(d.ID[:])
	}
	files, err := filepath.Glob(filepath.Join(w.node.Dir, "data", "*-*", "*.log"))
	w.l.must(err)
	var sum int64
	for _, f := range files {
		if strings.HasPrefix(filepath.Base(filepath.Dir(f)), id) {
			info, err := os.Stat(f)
			w.l.must(err)
			sum += info.Size()
		}
	}
	return sum
}

// sizes compares with the files on the disk.
func (w *world) sizes() {
	w.eventually("sizes are those of the log files", func() string {
		all := w.pages()
		p := all[len(all)-1]
		wrong := ""
		shown := p.series(metric.TopicDataSize)
		for _, topic := range []string{"steady", "orders", "events", "scraps"} {
			wrong += differs("topic_data_size of "+topic, shown["kafka_topics="+topic], float64(w.logBytes(topic)))
		}
		if len(shown) != 4 {
			wrong += fmt.Sprintf("topic_data_size of %v", shown)
		}
		v, _ := p.value(metric.BrokerDataSize, "")
		return wrong + differs("broker_data_size", v, float64(w.logBytes("")))
	})
	w.compared(metric.TopicDataSize, true, "")
	w.compared(metric.BrokerDataSize, true, "")
}

// linted lets Prometheus' own linter read a page. It may dislike names that are prescribed.
func (w *world) linted() {
	t := w.test()
	tool, err := exec.LookPath("promtool")
	if err != nil {
		t.Log("no promtool on this machine: only the parser looked at the text")
		return
	}
	command := exec.Command(tool, "check", "metrics")
	command.Stdin = strings.NewReader(w.text())
	out, err := command.CombinedOutput()
	if exit := command.ProcessState.ExitCode(); err != nil && exit != 3 { // 3: it does not like something
		t.Errorf("promtool cannot read the page: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		name, _, _ := strings.Cut(line, " ")
		if m, ok := metric.Lookup(metric.ID(name)); !ok || m.Group == metric.GroupOwn {
			t.Errorf("promtool: %s", line)
		}
	}
}

// ghosts deletes a topic and a group: nothing of them is left, live series included.
func (w *world) ghosts() {
	w.l.deleteTopic("scraps")
	w.l.deleteGroup("gone")
	w.agree(false)
	w.eventually("nothing is left of what was deleted", func() string {
		for line := range strings.Lines(w.text()) {
			if strings.Contains(line, `kafka_topics="scraps"`) || strings.Contains(line, `kafka_groups="gone"`) {
				return line
			}
		}
		return ""
	})
}

// internal starts the node again with internal names shown.
func (w *world) internal(settings map[string]string) {
	t := w.test()
	for _, p := range w.pages() {
		for name, f := range p.families {
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					if n, v := l.GetName(), l.GetValue(); (n == metric.LabelTopic || n == metric.LabelGroup) && (v[0] == '_' || v[0] == '#') {
						t.Errorf("%s shows %s=%q", name, n, v)
					}
				}
			}
		}
	}
	before := len(w.pages())
	w.node.Stop()
	settings["include_internal"] = "true"
	w.node.WriteConfig(settings)
	w.node.Restart()
	w.eventually("a period of the new process", func() string {
		if all := w.pages(); len(all) > before && all[len(all)-1].tick < all[before-1].tick {
			return ""
		}
		return "none yet"
	})
	w.agree(true)
	p := w.next(1)
	if n, ok := p.value(metric.TopicMessages, "kafka_topics=__consumer_offsets"); !ok || n < 10 {
		t.Errorf("__consumer_offsets holds %v messages (%v), at least 10 commits were made", n, ok)
	}
	for _, p := range w.pages()[before:] { // nobody produces since: a restart makes no rate
		for _, id := range []metric.ID{metric.BrokerMessagesInRate, metric.BrokerBytesInRate, metric.TopicMessagesInRate, metric.TopicBytesInRate} {
			for labels, v := range p.series(id) {
				if v != 0 {
					t.Errorf("%s{%s} is %v after the restart, nobody produced", id, labels, v)
				}
			}
		}
	}
}

// always holds of every page of the whole test: no alarm that is false, nothing negative,
// no time stamp, nothing that the catalogue does not know.
func (w *world) always() {
	t := w.test()
	for _, p := range w.pages() {
		if v, ok := p.value(metric.BrokerAlive, ""); ok && v != 1 {
			t.Errorf("broker_alive is %v in period %d: it never died", v, p.tick)
		}
		for _, m := range metric.Catalog() {
			for labels, v := range p.series(m.ID) {
				if v < m.Min || math.IsNaN(v) || m.Unit == "%" && v > 100 {
					t.Errorf("%s{%s} is %v in period %d", m.ID, labels, v, p.tick)
				}
			}
		}
		for name, f := range p.families {
			if _, ok := metric.Lookup(metric.ID(name)); !ok && strings.HasPrefix(name, "belfry_") && !strings.HasPrefix(name, "belfry_alertmanager_") {
				t.Errorf("%s is not in the catalogue", name)
			}
			for _, m := range f.GetMetric() {
				if m.TimestampMs != nil {
					t.Errorf("%s has a time stamp", name)
				}
			}
		}
	}
}

func differs(what string, got, want float64) string {
	if got == want {
		return ""
	}
	return fmt.Sprintf("%s is %v, want %v\n", what, got, want)
}
