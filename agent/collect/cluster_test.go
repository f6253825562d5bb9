package collect

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-mq/belfry/agent/cluster"
	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/agent/sampler"
	"github.com/belfry-mq/belfry/broker/stats"
)

// script drives the cluster collector by text. Each line of a script is a command:
//
//	wait 60s                      time goes by
//	brokers 0 1                   the brokers that are alive
//	topic NAME ID [internal]      made, without partitions; ID one letter
//	part NAME P start end [leader=-1] [isr=0,1] [replicas=0,1]
//	drop NAME                     topic gone
//	group NAME members [unknown]  exists; unknown: commits could not be read
//	commit NAME TOPIC P offset
//	dropgroup NAME
//	size BROKER TOPIC P bytes [future]
//	mute BROKER                   does not tell sizes
//	groups unknown|known          the list of groups
//	down | up                     no pass gets an answer
//	roll 0 1                      a probe is answered, with these brokers listed
//	traffic TOPIC in out          counters of the broker in this process
//	internal                      include internal names
//	limit N                       bound the series
//	quiet | emit                  another node emits, this one does
//	tick [metric …]               collect and print, of all series or of some metrics
type script struct {
	state   cluster.State
	down    bool
	options ClusterOptions
	emits   bool
	roll    Roll
	c       *Cluster
	broker  *stats.Broker
	began   int64 // of the processes of other brokers
	out     strings.Builder
}

func (s *script) Pass(context.Context) (*cluster.State, error) {
	if s.down {
		return nil, cluster.ErrUnreachable
	}
	state := s.state // the slices below are made anew: a state is read only
	state.Topics = nil
	for _, t := range s.state.Topics {
		t.Partitions = slices.Clone(t.Partitions)
		state.Topics = append(state.Topics, t)
	}
	state.Groups = slices.Clone(s.state.Groups)
	state.LogDirs = slices.Clone(s.state.LogDirs)
	state.Committed, state.Ended = time.Now(), time.Now()
	return &state, nil
}

func (s *script) topic(name string) *cluster.Topic {
	for i := range s.state.Topics {
		if s.state.Topics[i].Name == name {
			return &s.state.Topics[i]
		}
	}
	s.state.Topics = append(s.state.Topics, cluster.Topic{Name: name})
	slices.SortFunc(s.state.Topics, func(a, b cluster.Topic) int { return strings.Compare(a.Name, b.Name) })
	return s.topic(name)
}

func (s *script) group(name string) *cluster.Group {
	for i := range s.state.Groups {
		if s.state.Groups[i].Name == name {
			return &s.state.Groups[i]
		}
	}
	s.state.Groups = append(s.state.Groups, cluster.Group{Name: name, Known: true})
	slices.SortFunc(s.state.Groups, func(a, b cluster.Group) int { return strings.Compare(a.Name, b.Name) })
	return s.group(name)
}

func number64(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

func ids(s string) []int32 {
	out := []int32{}
	for part := range strings.SplitSeq(s, ",") {
		if part != "" {
			out = append(out, int32(number64(part)))
		}
	}
	return out
}

func (s *script) do(f []string) {
	switch f[0] {
	case "wait":
		d, err := time.ParseDuration(f[1])
		if err != nil {
			panic(err)
		}
		time.Sleep(d) // the bubble's clock
	case "brokers":
		s.state.Brokers = nil
		for _, id := range f[1:] {
			s.state.Brokers = append(s.state.Brokers, cluster.Broker{ID: int32(number64(id))})
		}
	case "topic":
		t := s.topic(f[1])
		*t = cluster.Topic{Name: f[1], ID: [16]byte{f[2][0]}, Internal: slices.Contains(f, "internal")}
	case "part":
		s.part(f)
	case "drop":
		s.state.Topics = slices.DeleteFunc(s.state.Topics, func(t cluster.Topic) bool { return t.Name == f[1] })
	case "group":
		g := s.group(f[1])
		g.Members, g.Known = int(number64(f[2])), !slices.Contains(f, "unknown")
	case "dropgroup":
		s.state.Groups = slices.DeleteFunc(s.state.Groups, func(g cluster.Group) bool { return g.Name == f[1] })
	case "commit":
		s.commit(f)
	case "size":
		s.size(f)
	case "mute":
		s.state.LogDirs = slices.DeleteFunc(s.state.LogDirs, func(d cluster.LogDirs) bool { return d.Broker == int32(number64(f[1])) })
	case "groups":
		s.state.GroupsKnown = f[1] == "known"
	case "down", "up":
		s.down = f[0] == "down"
	case "roll":
		s.roll = Roll{At: time.Now()}
		for _, id := range f[1:] {
			s.roll.Listed = append(s.roll.Listed, int32(number64(id)))
		}
	case "traffic":
		s.broker.Topic(f[1]).BytesIn.Add(int(number64(f[2])))
		s.broker.Topic(f[1]).BytesOut.Add(int(number64(f[3])))
	case "moved": // moved BROKER AGE TOPIC IN OUT: what another broker tells; its process has no name
		s.moved(f)
	case "reborn":
		s.began++
	case "droptraffic":
		s.broker.DropTopic(f[1])
	case "limit":
		s.c.o.SeriesLimit = int(number64(f[1]))
	case "internal":
		s.c.o.IncludeInternal = true
	case "quiet", "emit":
		s.emits = f[0] == "emit"
	case "tick":
		s.tick(f[1:])
	default:
		panic("no such command: " + f[0])
	}
}

func (s *script) part(f []string) {
	p := cluster.Partition{ID: int32(number64(f[2])), Replicas: []int32{0}, ISR: []int32{0}, Start: number64(f[3]), End: number64(f[4])}
	for _, option := range f[5:] {
		name, value, _ := strings.Cut(option, "=")
		switch name {
		case "leader":
			p.Leader = int32(number64(value))
		case "isr":
			p.ISR = ids(value)
		case "replicas":
			p.Replicas = ids(value)
		}
	}
	t := s.topic(f[1])
	t.Partitions = append(slices.DeleteFunc(t.Partitions, func(o cluster.Partition) bool { return o.ID == p.ID }), p)
	slices.SortFunc(t.Partitions, func(a, b cluster.Partition) int { return int(a.ID - b.ID) })
}

func (s *script) commit(f []string) {
	g := s.group(f[1])
	c := cluster.Commit{Topic: f[2], Partition: int32(number64(f[3])), Offset: number64(f[4])}
	commits := slices.DeleteFunc(slices.Clone(g.Commits), func(o cluster.Commit) bool { return o.Topic == c.Topic && o.Partition == c.Partition })
	g.Commits = append(commits, c)
	slices.SortFunc(g.Commits, func(a, b cluster.Commit) int {
		if n := strings.Compare(a.Topic, b.Topic); n != 0 {
			return n
		}
		return int(a.Partition - b.Partition)
	})
}

func (s *script) size(f []string) {
	id := int32(number64(f[1]))
	r := cluster.Replica{Topic: f[2], Partition: int32(number64(f[3])), Bytes: number64(f[4]), Future: slices.Contains(f, "future")}
	for i := range s.state.LogDirs {
		if s.state.LogDirs[i].Broker == id {
			s.state.LogDirs[i].Dirs[0].Replicas = append(s.state.LogDirs[i].Dirs[0].Replicas, r)
			return
		}
	}
	s.state.LogDirs = append(s.state.LogDirs, cluster.LogDirs{Broker: id, Dirs: []cluster.LogDir{{Replicas: []cluster.Replica{r}}}})
}

// moved sets the whole of what a broker tells of its clients.
func (s *script) moved(f []string) {
	id := int32(number64(f[1]))
	age, err := time.ParseDuration(f[2])
	if err != nil {
		panic(err)
	}
	t := &stats.Traffic{Began: s.began, Age: age, Topics: []stats.TopicTraffic{{Name: f[3], BytesIn: uint64(number64(f[4])), BytesOut: uint64(number64(f[5]))}}}
	for i := range s.state.LogDirs {
		if s.state.LogDirs[i].Broker == id {
			s.state.LogDirs[i].Traffic = t
			return
		}
	}
	s.state.LogDirs = append(s.state.LogDirs, cluster.LogDirs{Broker: id, Dirs: []cluster.LogDir{{}}, Traffic: t})
}

func (s *script) tick(only []string) {
	samples, err := s.c.Collect(context.Background(), sampler.Period{})
	if err != nil {
		fmt.Fprintf(&s.out, "error: %v\n", err)
	}
	samples, repeated := metric.Arrange(samples)
	if repeated > 0 {
		fmt.Fprintf(&s.out, "%d series twice\n", repeated)
	}
	for _, x := range samples {
		if len(only) > 0 && !slices.Contains(only, string(x.ID)) {
			continue
		}
		var l []string
		for _, label := range x.Labels {
			l = append(l, strings.TrimPrefix(label.Name, "kafka_")+"="+label.Value)
		}
		fmt.Fprintf(&s.out, "%s{%s} %s\n", x.ID, strings.Join(l, " "), strconv.FormatFloat(x.Value, 'f', -1, 64))
	}
}

// TestScripts plays testdata/*.txt: blocks of commands, a line of dashes, what
// must come out of them.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) { play(t, string(text)) })
		})
	}
}

// sorted orders lines: what is said counts, not in which order.
func sorted(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func play(t *testing.T, text string) {
	s := &script{emits: true, broker: stats.New()}
	s.state.GroupsKnown = true
	o := ClusterOptions{Passer: s, Emits: func(context.Context, time.Time) bool { return s.emits }, Roll: func() Roll { return s.roll }}
	first, rest, _ := strings.Cut(text, "\n")
	if id, ok := strings.CutPrefix(first, "beside "); ok { // beside a broker in one process
		o.Broker, o.Statistics = id, s.broker
		text = rest
	}
	s.c = NewCluster(o)
	for block := range strings.SplitSeq(text, "\n\n") {
		commands, want, checked := strings.Cut(block+"\n", "\n----\n")
		s.out.Reset()
		for line := range strings.Lines(commands) {
			if f := strings.Fields(line); len(f) > 0 && f[0] != "#" {
				s.do(f)
			}
		}
		if got := s.out.String(); checked && sorted(got) != sorted(want) {
			t.Errorf("%s\ngot\n%s\nwant\n%s", commands, sorted(got), sorted(want))
		}
	}
}

// crowd is a state of n partitions in topics of ten, each consumed by g groups.
func crowd(n, g int) *cluster.State {
	s := &cluster.State{GroupsKnown: true, Brokers: []cluster.Broker{{ID: 0}}, LogDirs: []cluster.LogDirs{{Broker: 0, Dirs: []cluster.LogDir{{}}}}}
	for i := range n / 10 {
		t := cluster.Topic{Name: fmt.Sprintf("topic-%05d", i)}
		for p := range int32(10) {
			t.Partitions = append(t.Partitions, cluster.Partition{ID: p, Replicas: []int32{0}, ISR: []int32{0}, End: 100})
		}
		s.Topics = append(s.Topics, t)
	}
	for i := range g {
		group := cluster.Group{Name: fmt.Sprintf("group-%03d", i), Known: true}
		for _, t := range s.Topics {
			for p := range int32(10) {
				group.Commits = append(group.Commits, cluster.Commit{Topic: t.Name, Partition: p, Offset: 40})
			}
		}
		s.Groups = append(s.Groups, group)
	}
	return s
}

// passes gives one state after the other.
type passes func() *cluster.State

func (f passes) Pass(context.Context) (*cluster.State, error) {
	s := f()
	s.Committed, s.Ended = time.Now(), time.Now()
	return s, nil
}

// TestNoLeak: what comes and goes leaves nothing behind.
func TestNoLeak(t *testing.T) {
	n := 0
	c := NewCluster(ClusterOptions{Passer: passes(func() *cluster.State {
		n++
		s := crowd(100, 2)
		for i := range s.Topics {
			s.Topics[i].Name = fmt.Sprintf("topic-%d-%d", n, i)
		}
		for i := range s.Groups {
			s.Groups[i].Name = fmt.Sprintf("group-%d-%d", n, i)
			for j := range s.Groups[i].Commits {
				s.Groups[i].Commits[j].Topic = s.Topics[j/10].Name
			}
		}
		return s
	})})
	for range 50 {
		if _, err := c.Collect(t.Context(), sampler.Period{}); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.lags) != 100 || len(c.life.known) != 1 || len(c.before.Topics) != 10 {
		t.Errorf("%d partitions, %d brokers, %d topics are remembered; want 100, 1, 10", len(c.lags), len(c.life.known), len(c.before.Topics))
	}
	steady := passes(func() *cluster.State { s := crowd(10, 1); n++; s.Topics[0].Partitions[0].End += int64(n); return s })
	c = NewCluster(ClusterOptions{Passer: steady})
	for range 10 * maxPoints {
		if _, err := c.Collect(t.Context(), sampler.Period{}); err != nil {
			t.Fatal(err)
		}
	}
	for p, track := range c.lags {
		if len(track.points) > maxPoints {
			t.Errorf("%d points of %v are remembered, at most %d", len(track.points), p, maxPoints)
		}
	}
}

func BenchmarkCollect(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := crowd(n, 3)
			c := NewCluster(ClusterOptions{Passer: passes(func() *cluster.State { return s })})
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Collect(b.Context(), sampler.Period{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
