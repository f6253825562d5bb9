package wire

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Handler takes requests of one connection in order, from one goroutine a connection. It may block only as long as
// the connection may stand still. A panic in it ends the connection, not the process.
type Handler interface{ Serve(*Request) }

// Request is one decoded request. Exactly one of Answer, AnswerHere, AnswerNothing, Drop must be called, from any goroutine.
type Request struct {
	Key, Version int16
	Correlation  int32
	ClientID     *string
	// Body is the request as kmsg decodes it. Its strings are its own; its byte slices alias the frame. That of a
	// Produce request, and the request itself, are used again after the answer: what is to stay must be copied.
	Body kmsg.Request
	Size int // bytes of the frame
	// Unsupported says that the client asked for ApiVersions in a version that is not served. Version is 0 then and
	// Body empty; the answer must be error 35 with what is served.
	Unsupported bool
	Received    time.Time
	Session     *Session

	inner    func(kmsg.Response, int16) // where the answer goes; nil: to the connection
	conn     *conn
	flexible bool
	frame    *frame
	grants   [2]grant     // memory for the frame, and for what was decoded from it
	served   atomic.Int64 // ns from Received until Serve returned or the answer was there

	// guarded by conn.mu
	done      bool
	abandoned bool // the handler panicked
	response  Response
	sent      int // bytes of the answer; the writer's
}

// grant is memory taken from a part of the budget.
type grant struct {
	part part
	n    int64
}

// Context ends when the connection is gone: nobody waits for the answer any more.
func (r *Request) Context() context.Context { return r.conn.ctx }

// Answer sends resp once all requests before this one are answered. It does not block.
func (r *Request) Answer(resp Response) { r.finish(resp, false) }

// AnswerHere is Answer for a goroutine that has nothing better to do: it sends resp itself if that takes no waiting.
func (r *Request) AnswerHere(resp Response) { r.finish(resp, true) }

// AnswerNothing ends a request that has no answer (acks=0).
func (r *Request) AnswerNothing() { r.finish(Response{kind: responseNothing}, false) }

// Drop closes the connection after the answers before it.
func (r *Request) Drop(err error) {
	if err == nil {
		err = errors.New("request dropped")
	}
	r.finish(Response{kind: responseDrop, err: err}, false)
}

func (r *Request) finish(resp Response, here bool) {
	if r.inner != nil {
		r.finishInner(resp)
		return
	}
	r.markServed()
	sent, owner := r.conn.answered(r, resp, here)
	if !sent {
		resp.release()
	}
	if owner {
		r.free()
	}
}

// RecordsDone says that the records of a Produce request are not read any more, and takes them out
// of Body; the rest of it stays until the answer. Their memory goes to the next request.
//
// Why: a request may wait long for its answer, until the disk or other brokers have its records. The
// next one then finds memory that the processor's caches hold, which halves what it costs to read
// from the socket and to check.
//
// Requires: it is called by Serve's goroutine, before the answer.
func (r *Request) RecordsDone() {
	if r.frame == nil {
		return
	}
	for i := range r.frame.req.Topics {
		ps := r.frame.req.Topics[i].Partitions
		for j := range ps {
			ps[j].Records = nil
		}
	}
	r.conn.server.frames.empty(r.frame)
	r.giveBack(0)
}

// giveBack returns one of the grants.
func (r *Request) giveBack(i int) {
	if g := r.grants[i]; g.n > 0 {
		g.part.put(g.n)
	}
	r.grants[i] = grant{}
}

// markServed notes the end of the work on the request: the first of answer and return of Serve.
func (r *Request) markServed() {
	r.served.CompareAndSwap(0, max(1, int64(time.Since(r.Received))))
}

// free gives the frame and the memory back. It is called once: by whoever ends the request.
func (r *Request) free() {
	for i := range r.grants {
		r.giveBack(i)
	}
	if r.frame != nil {
		r.conn.server.frames.put(r.frame)
		r.frame = nil
	}
}
