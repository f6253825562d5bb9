package wire

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Inner makes a request that came within this one (Envelope): header and body without
// the size before them. It is bounded, walked and decoded as one that came by itself, and
// belongs to the session given; its answer goes to answer, which is called once, from
// any goroutine, and gets nil where there is none.
//
// Requires: the outer request is answered only after the inner one.
//
// Errors: it is not served, or is no request.
func (r *Request) Inner(frame []byte, s *Session, answer func(kmsg.Response, int16)) (inner *Request, err error) {
	if len(frame) < headBytes {
		return nil, fmt.Errorf("cannot take a request within a request: %w", errShort)
	}
	if key := int16(be.Uint16(frame)); key == keyProduce || key == keyEnvelope {
		return nil, fmt.Errorf("cannot take request with key %d within a request: %w", key, errUnserved)
	}
	inner = &Request{Received: r.Received, Session: s, conn: r.conn, Size: len(frame), inner: answer}
	sh, err := r.conn.server.head(frame, inner)
	if err != nil {
		return nil, err
	}
	if inner.Unsupported {
		return nil, errUnserved
	}
	body, _, err := inner.parse(sh, frame) // Why its cost is not taken: it is bounded by the frame that is paid for
	if err != nil {
		return nil, err
	}
	return inner, inner.decode(body)
}

const keyEnvelope = 58

// finishInner hands an answer on.
func (r *Request) finishInner(resp Response) {
	switch resp.kind {
	case responseMessage:
		resp.message.SetVersion(r.Version)
		r.inner(resp.message, resp.code)
	default: // pieces are of Fetch and Produce only, which do not come here
		resp.release()
		r.inner(nil, resp.code)
	}
}
