package wire

import (
	"fmt"
)

func (c *conn) owe(r *Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.owed = append(c.mu.owed, r)
}

// answered notes the answer of r. sent=false: nobody will send it, the caller releases it. owner: the caller frees r.
func (c *conn) answered(r *Request, resp Response) (sent, owner bool) {
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
	first := c.mu.owed[0] == r
	c.mu.Unlock()
	if first {
		c.rouse()
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

func (c *conn) rouse() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// end says that no request will follow.
func (c *conn) end() {
	c.mu.Lock()
	c.mu.ended = true
	c.mu.Unlock()
	c.rouse()
}

// takeReady moves the answered requests at the front of the queue to dst. over: none is left and none will come.
func (c *conn) takeReady(dst []*Request) (ready []*Request, over bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for n < len(c.mu.owed) && c.mu.owed[n].done {
		n++
	}
	dst = append(dst, c.mu.owed[:n]...)
	rest := copy(c.mu.owed, c.mu.owed[n:])
	clear(c.mu.owed[rest:])
	c.mu.owed = c.mu.owed[:rest]
	return dst, rest == 0 && c.mu.ended
}

// dropOwed releases the answers that were not sent; later ones are released by finish.
func (c *conn) dropOwed() {
	c.mu.Lock()
	c.mu.closed = true
	owed := c.mu.owed
	c.mu.owed = nil
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
}
