package wire

import (
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// openServer is a Server that serves all that kmsg knows.
func openServer() *Server {
	return &Server{shapes: newShapes(), o: Options{MaxRequestBytes: DefaultMaxRequestBytes, Versions: func(_ *Session, key int16) (int16, int16, bool) {
		r := kmsg.RequestForKey(key)
		if r == nil {
			return 0, 0, false
		}
		return 0, r.MaxVersion(), true
	}}}
}

// decodeFrame takes the road of a frame from its bytes to the request.
func decodeFrame(s *Server, b []byte) (r *Request, cost int64, err error) {
	r = &Request{Session: &Session{}}
	sh, err := s.head(b, r)
	if err != nil {
		return nil, 0, err
	}
	body, cost, err := r.parse(sh, b)
	if err != nil {
		return nil, cost, err
	}
	return r, cost, r.decode(body)
}

func TestFrameRoundTrip(t *testing.T) {
	s := openServer()
	r := rand.New(rand.NewPCG(4, 2))
	for _, key := range keysOf(s.shapes) {
		for version := range s.shapes[key].max + 1 {
			req, _ := randomBody(r, key, version)
			f := kmsg.NewRequestFormatter(kmsg.FormatterClientID("the client"))
			b := f.AppendRequest(nil, req, 77)[sizeBytes:]
			got, _, err := decodeFrame(s, b)
			if err != nil {
				// Random requests may hold null where the protocol has none: kmsg writes, but does not read it.
				again := kmsg.RequestForKey(key)
				again.SetVersion(version)
				if again.ReadFrom(req.AppendTo(nil)) == nil {
					t.Errorf("%s version %d: %v", s.shapes[key].name, version, err)
				}
				continue
			}
			if got.Key != key || got.Version != version || got.Correlation != 77 || *got.ClientID != "the client" {
				t.Errorf("%+v", got)
			}
			if string(got.Body.AppendTo(nil)) != string(req.AppendTo(nil)) {
				t.Errorf("%s version %d comes out otherwise", s.shapes[key].name, version)
			}
		}
	}
}

// FuzzFrame asserts time and memory for every API (D1).
func FuzzFrame(f *testing.F) {
	s := openServer()
	r := rand.New(rand.NewPCG(7, 7))
	for _, key := range keysOf(s.shapes) {
		for _, version := range []int16{0, s.shapes[key].max} {
			req, _ := randomBody(r, key, version)
			f.Add(kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)[sizeBytes:])
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < minFrame || len(b) > maxPlainFrame {
			return
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		begin := time.Now()
		_, cost, err := decodeFrame(s, b)
		took := time.Since(begin)
		runtime.ReadMemStats(&after)
		if took > 2*time.Second {
			t.Fatalf("%d bytes took %s", len(b), took)
		}
		// Why so wide: the runtime rounds allocations up, and the fuzzer allocates beside us.
		if got := int64(after.TotalAlloc - before.TotalAlloc); got > 2*cost+1<<20 {
			t.Fatalf("%d bytes: %d allocated, %d foreseen (%v)", len(b), got, cost, err)
		}
	})
}
