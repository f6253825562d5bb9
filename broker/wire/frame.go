package wire

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// be is the byte order of everything but varints.
var be = binary.BigEndian

const (
	sizeBytes     = 4       // of a frame, before it
	headBytes     = 8       // of a request header that every version has: key, version, correlation ID
	minFrame      = 10      // headBytes and the length of a client ID
	maxPlainFrame = 1 << 20 // bytes of a frame that is not a Produce
	maxAround     = 4 << 10 // bytes of an Envelope beside the request in it
	keyProduce    = 0
	keyVersions   = 18
)

// maxGrowth is how many times its own size a request may take when decoded. Why: honest requests stay below ten,
// arrays of empty structs reach 232; growthFloor is for small ones.
const (
	maxGrowth   = 32
	growthFloor = 64 << 10
)

var (
	errUnserved = errors.New("API or version is not served")
	errGrowth   = errors.New("request would take too much memory")
)

// limitOf gives the largest frame of a request, in bytes.
func (s *Server) limitOf(key int16) int {
	switch key {
	case keyProduce:
		return s.o.MaxRequestBytes
	case keyEnvelope: // the largest frame of another request, and what is around it
		return min(s.o.MaxRequestBytes, maxPlainFrame+maxAround)
	}
	return min(s.o.MaxRequestBytes, maxPlainFrame)
}

// head reads what stands at the start of every frame and finds the shape of the rest.
func (s *Server) head(b []byte, r *Request) (*shape, error) {
	r.Key, r.Version, r.Correlation = int16(be.Uint16(b)), int16(be.Uint16(b[2:])), int32(be.Uint32(b[4:]))
	sh := s.shapes[r.Key]
	first, last, ok := s.o.Versions(r.Session, r.Key)
	if sh == nil || !ok {
		return nil, fmt.Errorf("cannot take request with key %d version %d: %w", r.Key, r.Version, errUnserved)
	}
	if r.Version >= first && r.Version <= min(last, sh.max) {
		r.flexible = r.Version >= sh.flexible
		return sh, nil
	}
	if r.Key != keyVersions {
		return nil, fmt.Errorf("cannot take request %s version %d: %w", sh.name, r.Version, errUnserved)
	}
	r.Version, r.Unsupported = 0, true
	return sh, nil
}

// recognise looks who sends an ApiVersions request in a version that is not served to everybody: who may ask for more
// than clients of the instance's release says so in this request, and is served it. frame is the whole request.
func (s *Server) recognise(r *Request, sh *shape, frame []byte) {
	asked := &Request{Key: r.Key, Version: int16(be.Uint16(frame[2:])), Session: r.Session}
	if asked.Version < 0 || asked.Version > sh.max {
		return
	}
	asked.flexible = asked.Version >= sh.flexible
	body, _, err := asked.parse(sh, frame)
	if err != nil || asked.decode(body) != nil {
		return
	}
	said := asked.Body.(*kmsg.ApiVersionsRequest)
	who := &Session{Listener: r.Session.Listener, Software: softwareName(said.ClientSoftwareName)}
	if first, last, ok := s.o.Versions(who, r.Key); ok && who.Software != "" && asked.Version >= first && asked.Version <= last {
		r.Version, r.flexible, r.Unsupported = asked.Version, asked.flexible, false
	}
}

// header reads the rest of the request header from w.
func (r *Request) header(w *walker) {
	// Why by hand: a client ID is never compact, not even in a flexible header.
	if len(w.b) < 2 {
		w.fail(errShort)
		return
	}
	n := int(int16(be.Uint16(w.b)))
	w.b = w.b[2:]
	if n < -1 || n > len(w.b) {
		w.fail(errLength)
		return
	}
	if n >= 0 {
		r.ClientID, w.b = r.Session.clientID(w.b[:n]), w.b[n:]
	}
	if w.flexible {
		w.tags(&structure{})
	}
}

// parse checks the frame b and tells what decoding it will cost. The body is decoded by decode.
func (r *Request) parse(sh *shape, b []byte) (body []byte, cost int64, err error) {
	w := walker{b: b[headBytes:], flexible: r.flexible}
	r.header(&w)
	if r.frame != nil {
		r.Body = &r.frame.req
	} else {
		r.Body = kmsg.RequestForKey(r.Key)
	}
	r.Body.SetVersion(r.Version)
	if r.Unsupported {
		// Why no error: the header of a version that we do not know may look otherwise; only the answer matters.
		return nil, 0, nil
	}
	if w.err != nil {
		return nil, 0, fmt.Errorf("cannot read header of request %s version %d: %w", sh.name, r.Version, w.err)
	}
	cost, rest, err := sh.walk(w.b, r.Version)
	if err != nil {
		return nil, 0, err
	}
	if cost > maxGrowth*int64(len(b))+growthFloor {
		return nil, 0, fmt.Errorf("cannot decode request %s version %d: %d bytes of %d: %w", sh.name, r.Version, cost, len(b), errGrowth)
	}
	return w.b[:len(w.b)-len(rest)], cost, nil
}

// decode reads a walked body.
func (r *Request) decode(body []byte) error {
	if r.Unsupported {
		return nil
	}
	if r.frame != nil {
		return decodeProduce(&r.frame.req, r.Session, body, r.Version, r.flexible)
	}
	if err := r.Body.ReadFrom(body); err != nil {
		return fmt.Errorf("cannot decode request with key %d version %d: %w", r.Key, r.Version, err)
	}
	return nil
}
