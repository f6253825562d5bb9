package broker_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/controller"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/replica"
	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/storage/disk"
	"github.com/belfry-mq/belfry/broker/topic"
)

var (
	scaleBrokers    = flag.Int("scale.brokers", 6, "brokers of the cluster that TestScale plays on paper")
	scalePartitions = flag.Int("scale.partitions", 3000, "partitions of that cluster, three replicas each")
	scaleTable      = flag.String("scale.table", "", "file that its table is written to")
)

// paper is a metadata log without a network and a disk: what is proposed is encoded, and
// every node would decode and fold it.
type paper struct {
	mu      sync.Mutex
	img     *metadata.Image
	entries int
	bytes   int
	largest int
	folding time.Duration // what one node takes for all of it
	changed chan struct{}
	leads   bool
	looked  []time.Duration // at the image, in this term: the processor time of then
	images  []*metadata.Image
}

func (p *paper) Leading() (bool, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.leads, p.changed
}

func (p *paper) Image() *metadata.Image {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.looked = append(p.looked, worked())
	return p.img
}

func (p *paper) Propose(_ context.Context, records []metadata.Record) (uint64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := metadata.AppendBatch(nil, records)
	began := worked()
	records, err := metadata.DecodeBatch(b)
	if err != nil {
		return 0, err
	}
	next, err := p.img.Fold(p.img.Index()+1, records)
	if err != nil {
		return 0, err
	}
	p.folding += worked() - began
	p.img, p.entries, p.bytes, p.largest = next, p.entries+1, p.bytes+len(b), max(p.largest, len(b))
	p.images = append(p.images, next)
	return next.Index(), nil
}

// worked gives the processor time that this process has used. Why not the clock's: nothing
// here waits, and the figures hold on a busy machine too.
func worked() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// term begins a new one as the active controller.
func (p *paper) term(leads bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.changed)
	p.changed, p.leads, p.looked = make(chan struct{}), leads, nil
}

// cost is what some decisions took.
type cost struct {
	controller time.Duration // deciding, encoding and folding
	entries    int
	bytes      int
	folding    time.Duration // on each other node
	images     []*metadata.Image
}

func (p *paper) measure(do func()) cost {
	p.mu.Lock()
	entries, bytes, folding := p.entries, p.bytes, p.folding
	p.images = nil
	p.mu.Unlock()
	began := worked()
	do()
	took := worked() - began
	p.mu.Lock()
	defer p.mu.Unlock()
	return cost{took, p.entries - entries, p.bytes - bytes, p.folding - folding, p.images}
}

// heapSize gives the bytes that are in use.
func heapSize() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// scale is a cluster on paper: the real controller, metadata, messages and, of one broker,
// the real partitions on a disk in memory.
type scale struct {
	t       *testing.T
	log     *paper
	control *controller.Controller
	rows    []string
	set     *replica.Set
	seen    *metadata.Image // by set
	n       int
}

func (s *scale) row(what, format string, args ...any) {
	s.rows = append(s.rows, what+"\t"+fmt.Sprintf(format, args...))
}

func (s *scale) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// follow has the one broker apply images, and gives how long it takes for each.
func (s *scale) follow(images ...*metadata.Image) time.Duration {
	s.t.Helper()
	began := worked()
	for _, img := range images {
		s.must(s.set.Apply(s.seen, img))
		s.seen = img
	}
	return worked() - began
}

func (s *scale) broker(id metadata.BrokerID) *metadata.Broker { return s.log.img.Broker(id) }

// registration is a broker's; its address is as long as addresses are.
func (s *scale) registration(id int, life byte) controller.Registration {
	return controller.Registration{
		Broker: metadata.Broker{
			ID: metadata.BrokerID(id), Incarnation: topic.ID{byte(id), life}, Rack: fmt.Sprint("zone-", id%3),
			Endpoints: []metadata.Endpoint{{Listener: "PLAINTEXT", Host: fmt.Sprintf("broker-%02d.example.net", id), Port: 9092}},
		},
		Previous: controller.NoEpoch,
	}
}

// enter registers a broker and puts it into service.
func (s *scale) enter(id int, life byte) {
	s.t.Helper()
	epoch, err := s.control.RegisterBroker(s.t.Context(), s.registration(id, life))
	s.must(err)
	s.must(s.control.UnfenceBroker(s.t.Context(), metadata.BrokerID(id), epoch))
}

// led counts what a broker leads and in how many in-sync sets it is.
func (s *scale) led(id metadata.BrokerID) (leads, inSync, leaderless int) {
	for _, t := range s.log.img.Topics() {
		for n := range t.Partitions {
			p := &t.Partitions[n]
			if p.Leader == id {
				leads++
			}
			if slices.Contains(p.ISR, id) {
				inSync++
			}
			if p.Leader == metadata.NoBroker {
				leaderless++
			}
		}
	}
	return leads, inSync, leaderless
}

// TestScale plays a large cluster on paper: how large its metadata are, what processor time
// they cost, and what a failover costs. doc.go has the table of 50 brokers and 100 000 partitions:
//
//	go test ./broker -run TestScale -v -args -scale.brokers 50 -scale.partitions 100000
func TestScale(t *testing.T) {
	values, err := config.Defaults().With(map[string]string{
		"broker.session.timeout.ms": "3600000", "leader.imbalance.check.interval.seconds": "3600",
		"instance.partition.limit": fmt.Sprint(2 * *scalePartitions),
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &scale{t: t, n: *scaleBrokers, log: &paper{img: metadata.Empty(), changed: make(chan struct{})}}
	s.control = controller.New(controller.Options{Node: metadata.BrokerID(s.n), Settings: values, Now: time.Now, Seed: 1}, s.log)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.control.Run(ctx) }()
	defer func() {
		cancel()
		s.must(<-done)
	}()
	s.log.term(true)
	s.metadata()
	s.open(values)
	s.heartbeats()
	s.failover()
	s.comesBack()
	s.oneChange()
	s.takesOver()
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(s.rows, "\n"))
	s.must(w.Flush())
	t.Logf("%d brokers, %d partitions of 3 replicas, %s %s/%s, %d CPUs\n%s", s.n, *scalePartitions, runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), &out)
	if *scaleTable != "" {
		s.must(os.WriteFile(*scaleTable, out.Bytes(), 0o644))
	}
}

// metadata makes brokers and topics, and looks how large all that is.
func (s *scale) metadata() {
	before := heapSize()
	for id := range s.n {
		s.enter(id+1, 1)
	}
	const each = 100
	took := s.log.measure(func() {
		for n := 0; n < *scalePartitions; n += each {
			made := s.control.CreateTopics(s.t.Context(), []controller.NewTopic{{
				Name: fmt.Sprintf("topic-%05d", n/each), Partitions: each, Replicas: 3, Configs: map[string]string{"min.insync.replicas": "2"},
			}}, false)
			s.must(made[0].Err)
		}
	})
	took.images, s.log.images = nil, nil
	image := heapSize() - before
	s.row("topics of 100 partitions, created one by one", "%d in %s, %s a partition in the log", took.entries, round(took.controller), size(took.bytes / *scalePartitions))
	s.row("image in memory", "%s, %s a partition", size(int(image)), size(int(image) / *scalePartitions))
	var snap bytes.Buffer
	began := worked()
	s.must(s.log.img.WriteSnapshot(&snap))
	wrote := worked() - began
	n := snap.Len()
	began = worked()
	read, err := metadata.ReadSnapshot(&snap)
	s.must(err)
	if d := metadata.Diff(s.log.img, read); !d.Empty() {
		s.t.Errorf("the snapshot differs: %d topics", len(d.Changed))
	}
	s.row("snapshot", "%s, written in %s, read in %s", size(n), round(wrote), round(worked()-began))
}

// open brings one broker's partitions up, those of broker 2.
func (s *scale) open(values *config.Values) {
	store, err := storage.Open(storage.Options{FS: disk.NewMemory(0), Dirs: []string{"/data"}, NodeID: 2, Now: time.Now})
	s.must(err)
	s.t.Cleanup(func() { s.must(store.Close()) })
	topics := config.TopicValues(values, nil, nil, map[string]string{"min.insync.replicas": "2"}, 3)
	s.set = replica.New(replica.Options{
		Node: 2, Store: store, Logger: slog.New(slog.DiscardHandler), Now: time.Now,
		Settings: func(*metadata.Image, string) *config.Values { return topics },
	})
	took := s.follow(s.log.img)
	s.row("one broker takes up its replicas, disk in memory", "%d in %s", len(s.set.All()), round(took))
}

// heartbeats looks at the messages of brokers that live, and what the controller does with them.
func (s *scale) heartbeats() {
	reg := s.registration(1, 1)
	m := kmsg.NewPtrBrokerRegistrationRequest()
	m.BrokerID, m.ClusterID, m.IncarnationID, m.Rack = 1, topic.NewID().String(), reg.Broker.Incarnation, &reg.Broker.Rack
	l := kmsg.NewBrokerRegistrationRequestListener()
	l.Name, l.Host, l.Port = reg.Broker.Endpoints[0].Listener, reg.Broker.Endpoints[0].Host, 9092
	m.Listeners = append(m.Listeners, l)
	m.SetVersion(m.MaxVersion())
	h := kmsg.NewPtrBrokerHeartbeatRequest()
	h.SetVersion(h.MaxVersion())
	const frame = 4 + 8 + 2 + 8 + 1 // length, header with a short client ID, tags
	const beats = 20_000
	began := worked()
	for i := range beats {
		b := s.broker(metadata.BrokerID(1 + i%(s.n-1)))
		p, err := s.control.Heartbeat(s.t.Context(), controller.Heartbeat{ID: b.ID, Epoch: b.Epoch, Seen: s.log.img.Index()})
		s.must(err)
		if p.Fenced {
			s.t.Fatal("a broker in service is told that it is not")
		}
	}
	each := (worked() - began) / beats
	second := float64(s.n) / config.Defaults().Duration("broker.heartbeat.interval.ms").Seconds()
	s.row("registration, heartbeat", "%d, %d bytes", frame+len(m.AppendTo(nil)), frame+len(h.AppendTo(nil)))
	s.row("heartbeats at the controller", "%.0f/s, %s each without the socket: %.4f %% of a core", second, round(each), 100*second*each.Seconds())
}

// failover takes a broker away.
func (s *scale) failover() {
	leads, inSync, _ := s.led(1)
	took := s.log.measure(func() { s.must(s.control.FenceBroker(s.t.Context(), 1, s.broker(1).Epoch)) })
	if _, left, none := s.led(1); left != 0 || none != 0 {
		s.t.Errorf("the dead broker is in %d in-sync sets, %d partitions have no leader", left, none)
	}
	if most := 1 + inSync/1000; took.entries > most {
		s.t.Errorf("the failover takes %d entries of the metadata log for %d partitions", took.entries, inSync)
	}
	apply := s.follow(took.images...)
	s.row("a broker dies: leaders elected, in-sync sets shrunk", "%d, %d", leads, inSync)
	s.row("… controller decides", "%s, %d entries, %s", round(took.controller), took.entries, size(took.bytes))
	s.row("… every node folds, a broker follows", "%s, %s", round(took.folding), round(apply))
}

// comesBack registers the broker again, and every leader takes it back into its in-sync sets.
func (s *scale) comesBack() {
	took := s.log.measure(func() { s.enter(1, 2) })
	s.row("it comes back: controller, broker follows", "%s, %s", round(took.controller), round(s.follow(took.images...)))
	changes := make(map[metadata.BrokerID][]controller.ISRChange)
	for _, t := range s.log.img.Topics() {
		for n := range t.Partitions {
			p := &t.Partitions[n]
			if !slices.Contains(p.Replicas, 1) || slices.Contains(p.ISR, 1) {
				continue
			}
			c := controller.ISRChange{Topic: t.ID, Partition: int32(n), LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch}
			for _, id := range append(slices.Clone(p.ISR), 1) {
				c.ISR = append(c.ISR, controller.Member{ID: id, Epoch: s.broker(id).Epoch})
			}
			changes[p.Leader] = append(changes[p.Leader], c)
		}
	}
	n := 0
	took = s.log.measure(func() {
		for leader, cs := range changes {
			got, err := s.control.AlterISR(s.t.Context(), leader, s.broker(leader).Epoch, cs)
			s.must(err)
			for i := range got {
				s.must(got[i].Err)
			}
			n += len(cs)
		}
	})
	apply := s.follow(took.images...)
	s.row("… in-sync sets grown, one request of each leader", "%d: controller %s, %d entries, %s", n, round(took.controller), took.entries, size(took.bytes))
	s.row("… every node folds, a broker follows", "%s, %s", round(took.folding), round(apply))
	if _, inSync, _ := s.led(1); inSync != n {
		s.t.Errorf("it is in %d in-sync sets, want %d", inSync, n)
	}
}

// oneChange is the smallest change there is.
func (s *scale) oneChange() {
	t := s.log.img.Topics()[0]
	const times = 100
	took := s.log.measure(func() {
		for range times {
			p := &s.log.img.TopicByID(t.ID).Partitions[0]
			c := controller.ISRChange{Topic: t.ID, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch}
			for _, id := range p.ISR {
				c.ISR = append(c.ISR, controller.Member{ID: id, Epoch: s.broker(id).Epoch})
			}
			got, err := s.control.AlterISR(s.t.Context(), p.Leader, s.broker(p.Leader).Epoch, []controller.ISRChange{c})
			s.must(err)
			s.must(got[0].Err)
		}
	})
	apply := s.follow(took.images...)
	s.row("one in-sync set changes: controller, fold, broker follows", "%s, %s, %s", round(took.controller/times), round(took.folding/times), round(apply/times))
}

// takesOver has another node become the active controller: it looks at everything.
func (s *scale) takesOver() {
	s.log.term(false)
	s.log.term(true)
	var took time.Duration
	deadline := time.Now().Add(time.Minute)
	for took == 0 {
		s.log.mu.Lock()
		// Run looks when its term begins, twice to put partitions in order, and after that.
		if at := s.log.looked; len(at) > 3 {
			took = at[3] - at[0]
		}
		s.log.mu.Unlock()
		if time.Now().After(deadline) {
			s.t.Fatal("the new controller does not come to an end")
		}
		time.Sleep(time.Millisecond) // it would be counted too
	}
	s.row("a new controller looks at every partition", "%s", round(took))
}

func round(d time.Duration) time.Duration {
	for unit := time.Second; unit > 1; unit /= 10 {
		if d >= unit {
			return d.Round(unit / 100)
		}
	}
	return d
}

func size(n int) string {
	switch {
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 10<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d B", n)
}
