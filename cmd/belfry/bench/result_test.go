package bench

import (
	"strings"
	"testing"

	"github.com/belfry-mq/belfry/cmd/belfry/bench/peer"
	"github.com/belfry-mq/belfry/cmd/belfry/bench/profile"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{4, 1}, 2.5}, {[]float64{9, 1, 5}, 5}} {
		if got := median(c.in); got != c.want {
			t.Errorf("median(%v) = %v, want %v", c.in, got, c.want)
		}
	}
}

// TestTable reads a table with goals reached and missed, upwards and downwards.
func TestTable(t *testing.T) {
	r := &Result{Lines: []*Measure{
		{Line: Line{ID: "a", Name: "fast", Unit: mbs, Goal: 1.5, Limit: "the wall", LimitGoal: 0.7, Against: peer.Kafka}, Values: map[string][]float64{}, Medians: map[string]float64{}},
		{Line: Line{ID: "b", Name: "slow", Unit: ms, Lower: true, Goal: 1.0 / 3, Against: peer.Kafka}, Values: map[string][]float64{}, Medians: map[string]float64{}},
		{Line: Line{ID: "c", Name: "scrape", Unit: ms, Lower: true, Goal: 0.2, Against: "other"}, Values: map[string][]float64{}, Medians: map[string]float64{}},
		{Line: Line{ID: "d", Name: "never measured", Unit: ms, Against: peer.Kafka}},
	}}
	for _, n := range []struct {
		id, who string
		v       float64
	}{
		{"a", peer.Belfry, 900}, {"a", peer.Belfry, 1500}, {"a", peer.Belfry, 1200}, {"a", peer.Kafka, 400}, {"a", limitColumn, 2000},
		{"b", peer.Belfry, 4}, {"b", peer.Kafka, 10}, {"c", peer.Belfry, 1}, {"c", "other", 50}, {"x", peer.Belfry, 1}, {"b", peer.Null, 5}, {"a", peer.Null, 1800},
	} {
		r.note(n.id, n.who, n.v)
	}
	r.Profiles = []Profile{{Name: "fast", Lines: []string{"a"}, Busy: 0.98, Broker: 0.25, BrokerTime: []profile.Share{{Name: "sendfile", Part: 0.6}, {Name: "CRC", Part: 0.02}}}}
	r.remark("said %s", "once")
	r.remark("said %s", "once")
	var b strings.Builder
	if err := r.writeTable(&b); err != nil {
		t.Fatal(err)
	}
	var got [][]string
	for line := range strings.Lines(b.String()) {
		got = append(got, strings.Fields(line))
	}
	text := ""
	for _, f := range got {
		text += strings.Join(f, " ") + "\n"
	}
	for _, want := range []string{
		"measure unit Belfry Kafka ratio goal limit ratio goal null broker ratio\n",
		"fast MB/s 1200 400 3 × ≥ 1.5 × ok 2000 (the wall) 0.6 × ≥ 0.7 × missed 1800 0.667 ×\n",
		"slow ms 4.00 10.0 0.4 × ≤ 1/3 × missed 5.00 0.8 ×\n",
		"scrape ms 1.00 50.0 (other) 0.02 × ≤ 1/5 × ok\n",
		"note: said once\n",
		"fast: 98 % busy, broker : client 25 % : 75 %\nbroker: sendfile 60 %\nclient:\na broker that stores nothing: 0.9 × the wall\n",
		"a broker that stores nothing: 0.5 × Kafka: the goal is out of reach\n",
		"2 goals reached, 2 missed\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "never") || strings.Count(text, "said once") != 1 {
		t.Errorf("too much in\n%s", text)
	}
}

// TestBound says of a missed goal whether any broker could reach it.
func TestBound(t *testing.T) {
	for want, m := range map[string]*Measure{
		"1.2 × Kafka: the goal is out of reach; 0.8 × sendfile": {
			Line:    Line{Against: peer.Kafka, Goal: 1.5, Limit: "sendfile", LimitGoal: 0.7},
			Medians: map[string]float64{peer.Belfry: 100, peer.Kafka: 100, peer.Null: 120, limitColumn: 150},
		},
		"0.25 × Kafka": {Line: Line{Against: peer.Kafka, Lower: true, Goal: 0.5, Limit: peer.Null}, Medians: map[string]float64{peer.Belfry: 3, peer.Kafka: 4, limitColumn: 1}},
		"":             {Line: Line{Against: peer.Kafka, Goal: 1.5, Limit: peer.Null, LimitGoal: 0.7}, Medians: map[string]float64{peer.Belfry: 3, peer.Kafka: 1, limitColumn: 6}},
	} {
		if got := m.bound(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestFigure(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.01234: "0.0123", 1: "1.00", 12.345: "12.3", 999.9: "1000", 12345.6: "12346", -2.5: "-2.50"} {
		if got := figure(v); got != want {
			t.Errorf("figure(%v) = %s, want %s", v, got, want)
		}
	}
}

func TestGoalText(t *testing.T) {
	for _, c := range []struct {
		goal  float64
		lower bool
		want  string
	}{{1.5, false, "≥ 1.5 ×"}, {0.7, false, "≥ 0.7 ×"}, {1.0 / 3, true, "≤ 1/3 ×"}, {0.5, true, "≤ 1/2 ×"}, {1, true, "≤ 1 ×"}, {0.98, false, "≥ 0.98 ×"}} {
		if got := goalText(c.goal, c.lower); got != c.want {
			t.Errorf("goal %v: %s, want %s", c.goal, got, c.want)
		}
	}
}

// TestPerf reads what Kafka's tools of 4.3.1 print.
func TestPerf(t *testing.T) {
	const produced = `64000 records sent, 12345.0 records/sec (11.77 MB/sec), 3.1 ms avg latency, 300.0 ms max latency.
225000 records sent, 100000.0 records/sec (95.37 MB/sec), 200.10 ms avg latency, 412.00 ms max latency, 190 ms 50th, 350 ms 95th, 400 ms 99th, 410 ms 99.9th.
150000 records sent, 209715.2 records/sec (200.00 MB/sec), 100.10 ms avg latency, 212.00 ms max latency, 90 ms 50th, 150 ms 95th, 200 ms 99th, 210 ms 99.9th.
`
	if got, err := producerPerf(produced); err != nil || got != 200*mebi {
		t.Errorf("produced: %v, %v", got, err)
	}
	const consumed = `SLF4J: something
start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, rebalance.time.ms, fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec
2026-11-22 10:00:00:000, 2026-11-22 10:00:04:000, 429.1534, 107.2884, 450000, 112500.0, 3100, 900, 476.8372, 500000.0
`
	if got, err := consumerPerf(consumed); err != nil || got != 476.8372*mebi {
		t.Errorf("consumed: %v, %v", got, err)
	}
	for _, read := range []func(string) (float64, error){producerPerf, consumerPerf} {
		if _, err := read("Exception in thread\n"); err == nil {
			t.Error("an exception was read as a figure")
		}
	}
}

func TestMachine(t *testing.T) {
	const mounts = "/dev/a / ext4 rw 0 0\nproc /proc proc rw 0 0\n/dev/b /data xfs rw 0 0\n/dev/c /data2 ext3 rw 0 0\n"
	for dir, want := range map[string]string{"/data/x": "xfs on /dev/b", "/data": "xfs on /dev/b", "/data2/y": "ext3 on /dev/c", "/home": "ext4 on /dev/a"} {
		if got := mountOf(mounts, dir); got != want {
			t.Errorf("%s is on %s, want %s", dir, got, want)
		}
	}
	if got := field("a\t: 1\nmodel name\t: X Y\n", "model name"); got != "X Y" {
		t.Errorf("got %q", got)
	}
	if got := memoryText(25_769_803_776); got != "24.0 GiB" {
		t.Errorf("got %q", got)
	}
}
