package peer_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/peer"
	"github.com/belfry-mq/belfry/broker/topic"
	"github.com/belfry-mq/belfry/broker/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a broker that answers Metadata with the topic name asked for, and keeps
// requests for the topic "wait" until it is told to go on.
type server struct {
	addr    *net.TCPAddr
	stop    func()
	conns   sync.Map // session ID → software
	held    atomic.Int64
	release chan struct{}
	keys    map[int16]int16
}

func (s *server) versions(_ *wire.Session, key int16) (int16, int16, bool) {
	v, ok := s.keys[key]
	return 0, v, ok
}

func (s *server) Serve(r *wire.Request) {
	switch req := r.Body.(type) {
	case *kmsg.ApiVersionsRequest:
		s.conns.Store(r.Session.ID, r.Session.Software)
		resp := kmsg.NewPtrApiVersionsResponse()
		for key, v := range s.keys {
			resp.ApiKeys = append(resp.ApiKeys, kmsg.ApiVersionsResponseApiKey{ApiKey: key, MaxVersion: v})
		}
		r.Answer(wire.Message(resp, 0))
	case *kmsg.MetadataRequest:
		resp := kmsg.NewPtrMetadataResponse()
		t := kmsg.NewMetadataResponseTopic()
		t.Topic, t.ErrorCode = req.Topics[0].Topic, r.Version
		resp.Topics = append(resp.Topics, t)
		if *t.Topic == "wait" {
			s.held.Add(1)
			go func() {
				<-s.release
				r.Answer(wire.Message(resp, 0))
			}()
			return
		}
		r.Answer(wire.Message(resp, 0))
	default:
		r.Drop(nil)
	}
}

// holds waits until so many requests wait.
func (s *server) holds(t *testing.T, n int64) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); s.held.Load() < n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d requests wait, want %d", s.held.Load(), n)
		}
	}
}

func (s *server) count() (n int) {
	s.conns.Range(func(any, any) bool { n++; return true })
	return n
}

func serve(t *testing.T, at string) *server {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{addr: l.Addr().(*net.TCPAddr), release: make(chan struct{}), keys: map[int16]int16{3: 9, 18: 3}}
	w, err := wire.New(wire.Options{Listeners: []wire.Listener{{Name: "INTERNAL", Net: l}}, Handler: s, Versions: s.versions, Grace: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(s.stop)
	return s
}

// world is an image with brokers at addresses.
type world struct {
	img atomic.Pointer[metadata.Image]
}

func newWorld() *world {
	w := &world{}
	w.img.Store(metadata.Empty())
	return w
}

func (w *world) register(t *testing.T, id metadata.BrokerID, at *net.TCPAddr) {
	t.Helper()
	old := w.img.Load()
	next, err := old.Fold(old.Index()+1, []metadata.Record{&metadata.BrokerRegistered{Broker: metadata.Broker{
		ID: id, Epoch: metadata.EpochFromIndex, Incarnation: topic.NewID(),
		Endpoints: []metadata.Endpoint{{Listener: "PUBLIC", Host: "192.0.2.1", Port: 1}, {Listener: "INTERNAL", Host: at.IP.String(), Port: int32(at.Port)}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	w.img.Store(next)
}

func client(t *testing.T, w *world) *peer.Client {
	t.Helper()
	c := peer.New(peer.Options{Node: 1, Listener: "INTERNAL", Image: w.img.Load})
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func ask(ctx context.Context, c *peer.Client, lane, name string) (version int16, err error) {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{{Topic: &name}}
	resp, err := c.Do(ctx, 2, lane, req)
	if err != nil {
		return 0, err
	}
	got := resp.(*kmsg.MetadataResponse).Topics[0]
	if *got.Topic != name {
		return 0, fmt.Errorf("asked for %q, got the answer for %q", name, *got.Topic)
	}
	return got.ErrorCode, nil
}

func TestAsksInTheNewestCommonVersion(t *testing.T) {
	s, w := serve(t, "127.0.0.1:0"), newWorld()
	w.register(t, 2, s.addr)
	c := client(t, w)
	if v, err := ask(t.Context(), c, "a", "x"); err != nil || v != 9 {
		t.Fatalf("version %d, %v", v, err)
	}
	req := kmsg.NewPtrMetadataRequest()
	req.Version, req.Topics = 4, []kmsg.MetadataRequestTopic{{Topic: kmsg.StringPtr("y")}}
	resp, err := c.Do(t.Context(), 2, "a", req)
	if err != nil || resp.GetVersion() != 4 {
		t.Fatalf("%v, %v; want version 4 as the caller set it", resp, err)
	}
	if _, err := c.Do(t.Context(), 2, "a", kmsg.NewPtrAlterPartitionRequest()); !errors.Is(err, peer.ErrVersion) {
		t.Fatalf("%v, want ErrVersion", err)
	}
	if n := s.count(); n != 1 {
		t.Fatalf("%d connections for one lane", n)
	}
	s.conns.Range(func(_, software any) bool {
		if software != peer.Software {
			t.Errorf("the broker is taken for %q", software)
		}
		return true
	})
}

func TestLanesDoNotWaitForEachOther(t *testing.T) {
	s, w := serve(t, "127.0.0.1:0"), newWorld()
	w.register(t, 2, s.addr)
	c := client(t, w)
	slow := make(chan error, 1)
	go func() { _, err := ask(t.Context(), c, "slow", "wait"); slow <- err }()
	s.holds(t, 1)
	if _, err := ask(t.Context(), c, "fast", "x"); err != nil {
		t.Fatal(err)
	}
	close(s.release)
	if err := <-slow; err != nil {
		t.Fatal(err)
	}
	if n := s.count(); n != 2 {
		t.Fatalf("%d connections for two lanes", n)
	}
}

func TestPipelinesAndMatches(t *testing.T) {
	s, w := serve(t, "127.0.0.1:0"), newWorld()
	w.register(t, 2, s.addr)
	c := client(t, w)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			if _, err := ask(t.Context(), c, "a", fmt.Sprint("topic-", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := s.count(); n != 1 {
		t.Fatalf("%d connections", n)
	}
}

func TestErrorsTellWhatIsKnown(t *testing.T) {
	s, w := serve(t, "127.0.0.1:0"), newWorld()
	c := client(t, w)
	if _, err := ask(t.Context(), c, "a", "x"); !errors.Is(err, peer.ErrNoAddress) {
		t.Fatalf("%v, want ErrNoAddress", err)
	}
	w.register(t, 2, s.addr)
	if _, err := ask(t.Context(), c, "a", "x"); err != nil { // connects
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := ask(ctx, c, "a", "wait"); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, peer.ErrUnreachable) {
		t.Fatalf("%v, want the deadline after it was sent", err)
	}
	// A new connection: the old one was given up.
	if _, err := ask(t.Context(), c, "a", "x"); err != nil {
		t.Fatal(err)
	}
	if n := s.count(); n != 2 {
		t.Fatalf("%d connections, want a second one after the time-out", n)
	}
	lost := make(chan error, 1)
	go func() { _, err := ask(t.Context(), c, "a", "wait"); lost <- err }()
	s.holds(t, 2)
	defer close(s.release)
	s.stop()
	if err := <-lost; !errors.Is(err, peer.ErrLost) {
		t.Fatalf("%v, want ErrLost", err)
	}
	if _, err := ask(t.Context(), c, "a", "x"); !errors.Is(err, peer.ErrUnreachable) {
		t.Fatalf("%v, want ErrUnreachable", err)
	}
}

func TestCancelKeepsTheConnection(t *testing.T) {
	s, w := serve(t, "127.0.0.1:0"), newWorld()
	w.register(t, 2, s.addr)
	c := client(t, w)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := ask(ctx, c, "a", "wait"); done <- err }()
	s.holds(t, 1)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	close(s.release)
	if _, err := ask(t.Context(), c, "a", "x"); err != nil {
		t.Fatal(err)
	}
	if n := s.count(); n != 1 {
		t.Fatalf("%d connections, want the first one still", n)
	}
}

func TestFollowsTheBrokerToANewAddress(t *testing.T) {
	a, b, w := serve(t, "127.0.0.1:0"), serve(t, "127.0.0.1:0"), newWorld()
	w.register(t, 2, a.addr)
	c := client(t, w)
	stuck := make(chan error, 1)
	go func() { _, err := ask(t.Context(), c, "a", "wait"); stuck <- err }()
	a.holds(t, 1)
	defer close(a.release)
	old := w.img.Load()
	w.register(t, 2, b.addr)
	c.Apply(old, w.img.Load())
	if err := <-stuck; !errors.Is(err, peer.ErrLost) || !strings.Contains(err.Error(), "moved") {
		t.Fatalf("%v, want ErrLost because it moved", err)
	}
	if _, err := ask(t.Context(), c, "a", "x"); err != nil {
		t.Fatal(err)
	}
	if b.count() != 1 {
		t.Fatal("the new address was not used")
	}
}

func TestComesBackAfterARestart(t *testing.T) {
	s, w := serve(t, "127.0.0.1:0"), newWorld()
	w.register(t, 2, s.addr)
	c := client(t, w)
	if _, err := ask(t.Context(), c, "a", "x"); err != nil {
		t.Fatal(err)
	}
	s.stop()
	for range 3 {
		if _, err := ask(t.Context(), c, "a", "x"); !errors.Is(err, peer.ErrUnreachable) && !errors.Is(err, peer.ErrLost) {
			t.Fatal(err)
		}
	}
	serve(t, s.addr.String())
	deadline := time.Now().Add(10 * time.Second)
	for {
		_, err := ask(t.Context(), c, "a", "x")
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func TestCloseEndsWhatWaits(t *testing.T) {
	s, w := serve(t, "127.0.0.1:0"), newWorld()
	w.register(t, 2, s.addr)
	c := client(t, w)
	done := make(chan error, 1)
	go func() { _, err := ask(t.Context(), c, "a", "wait"); done <- err }()
	s.holds(t, 1)
	defer close(s.release)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, peer.ErrLost) {
		t.Fatal(err)
	}
	if _, err := ask(t.Context(), c, "a", "x"); !errors.Is(err, peer.ErrClosed) {
		t.Fatalf("%v, want ErrClosed", err)
	}
}
