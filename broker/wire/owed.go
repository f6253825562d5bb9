package wire

import (
	"errors"
	"fmt"
)

// owe queues a request that the reader is about to serve.
func (c *conn) owe(r *Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.owed = append(c.mu.owed, r)
	c.mu.serving = r
}

// answered notes the answer of r. here: the caller may send it. sent=false: nobody will send it, the caller releases
// it. owner: the caller frees r.
func (c *conn) answered(r *Request, resp Response, here bool) (sent, owner bool) {
	c.mu.Lock()
	if r.abandoned {
		c.mu.Unlock()
		return false, false
	}
	if r.done {
		c.mu.Unlock()
		panic(fmt.Sprintf("BUG: request with key %d answered twice", r.Key))
	}
	r.done = true
	if c.mu.closed {
		c.mu.Unlock()
		return false, true
	}
	r.response = resp
	// Why not while it is served: the reader is about to look, and needs no other goroutine to send.
	begin := c.mu.owed[0] == r && c.mu.serving != r && !c.mu.sending
	if begin {
		c.mu.sending = true
		c.writers.Add(1)
	}
	c.mu.Unlock()
	switch {
	case begin && here:
		c.writeNow()
	case begin:
		go c.write(false)
	}
	return true, true
}

// abandon ends a request whose handler panicked. Its frame is not used again: the handler may have passed it on.
func (c *conn) abandon(r *Request) {
	c.mu.Lock()
	owner := !r.done
	r.abandoned = true
	c.mu.Unlock()
	if owner {
		r.frame = nil
		r.free()
	}
}

// begin makes the reader the one who sends, if an answer is ready and nobody sends; later: it is about to come again.
func (c *conn) begin(later bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.serving = nil
	if c.mu.sending || c.mu.closed || len(c.mu.owed) == 0 || !c.mu.owed[0].done {
		c.deferred = 0
		return false
	}
	if later {
		c.deferred++
		return false
	}
	c.deferred = 0
	c.mu.sending = true
	return true
}

// takeReady moves the answered requests at the front of the queue to the sender's batch; false: there are none, and the
// caller no longer sends.
func (c *conn) takeReady() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for n < len(c.mu.owed) && c.mu.owed[n].done {
		n++
	}
	if n == 0 {
		c.mu.sending = false
		c.settleLocked()
		return false
	}
	c.out.batch = append(c.out.batch[:0], c.mu.owed[:n]...)
	rest := copy(c.mu.owed, c.mu.owed[n:])
	clear(c.mu.owed[rest:])
	c.mu.owed = c.mu.owed[:rest]
	return true
}

// end says that no request will follow.
func (c *conn) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.ended = true
	c.settleLocked()
}

// settleLocked tells when everything was sent.
func (c *conn) settleLocked() {
	if c.mu.ended && !c.mu.sending && !c.mu.over && len(c.mu.owed) == 0 {
		c.mu.over = true
		close(c.written)
	}
}

// fail ends the sending for good; the caller stays the one who sends.
func (c *conn) fail(err error) {
	if !errors.As(err, new(droppedError)) {
		c.cancel(err)
	}
	c.mu.Lock()
	c.mu.unsent = err
	if !c.mu.over {
		c.mu.over = true
		close(c.written)
	}
	c.mu.Unlock()
	c.drain()
}

// dropOwed releases the answers that were not sent; later ones are released by finish. It tells why the sending
// ended, if it did.
func (c *conn) dropOwed() (unsent error) {
	c.mu.Lock()
	c.mu.closed = true
	owed := c.mu.owed
	c.mu.owed = nil
	unsent = c.mu.unsent
	var answers []*Request
	for _, r := range owed {
		if r.done {
			answers = append(answers, r)
		}
	}
	c.mu.Unlock()
	for _, r := range answers {
		r.response.release()
	}
	return unsent
}
