package wire

import (
	"sync"
	"time"
)

const (
	coalesce     = 256 << 10 // bytes of answers that are gathered before they are sent
	gatherBytes  = 8 << 10   // bytes: a smaller piece is copied rather than sent on its own
	gatherFile   = 16 << 10  // bytes: a smaller part of a file is read rather than sent by sendfile
	copyBuffer   = 128 << 10 // bytes read at a time where sendfile cannot be used
	keepBuffer   = 1 << 20   // bytes: a larger buffer is not kept
	writeTimeout = time.Minute
)

// Why a package variable: a pool is a cache without meaning.
var outBuffers = sync.Pool{New: func() any { return new([]byte) }}

// droppedError is the end of a connection that a handler asked for.
type droppedError struct{ error }

func (e droppedError) Unwrap() error { return e.error }

// write sends answers, the batch first if it is begun, until none is ready. It runs in a goroutine of its own. Requires:
// mu.sending was set for it.
func (c *conn) write(begun bool) {
	defer c.writers.Done()
	if err := c.guard(func() error { return c.sendAll(begun) }); err != nil {
		c.fail(err)
	}
}

func (c *conn) sendAll(begun bool) error {
	for {
		// Why it may be there: the reader took it, and could not send all of it.
		if !begun && !c.takeReady() {
			return nil
		}
		begun = false
		if err := c.send(&c.out); err != nil {
			return err
		}
	}
}

// reply is write for the reader, which must not wait for the client: a client that sends many requests before it reads
// answers would wait for the reader. Requires: begin said so.
func (c *conn) reply() {
	c.writers.Add(1)
	c.writeNow()
}

// writeNow is write for who must not wait: what the socket does not take at once is left to a goroutine.
func (c *conn) writeNow() {
	rest, err := c.sendReady()
	if rest {
		go c.write(true)
		return
	}
	if err != nil { // it panicked
		c.out.finish()
		c.settle(&c.out)
		c.fail(err)
	}
	c.writers.Done()
}

// sendReady sends answers until none is ready; rest: a goroutine is to go on with the batch.
func (c *conn) sendReady() (rest bool, err error) {
	defer c.recovered(&err)
	for c.takeReady() {
		if !c.out.fits() || !c.sendNow(&c.out) {
			return true, nil
		}
	}
	return false, nil
}

// sendNow writes the answers of the batch as far as the socket takes them at once; false: a goroutine is to go on.
func (c *conn) sendNow(o *sender) (done bool) {
	c.served.Store(true)
	o.begin()
	o.held = true
	for _, r := range o.batch {
		if err := o.answer(r); err != nil {
			o.broken = err
			return false
		}
	}
	o.held = false
	n, err := o.tryWrite()
	c.stats.BytesOut.Add(n)
	if err != nil {
		o.broken = err
		return false
	}
	if n < len(o.buf) {
		o.buf = o.buf[:copy(o.buf, o.buf[n:])]
		return false
	}
	o.finish()
	c.count(o.batch)
	c.settle(o)
	return true
}

// send writes the answers of the batch and releases them, whatever happens.
func (c *conn) send(o *sender) error {
	defer c.settle(o)
	defer o.finish()
	var dropped error
	sent := o.batch
	if o.pool == nil { // else sendNow has gathered them all
		c.served.Store(true)
		o.begin()
		for i, r := range o.batch {
			if r.response.kind == responseDrop {
				dropped, sent = droppedError{r.response.err}, o.batch[:i]
				break
			}
			if err := o.answer(r); err != nil {
				return err
			}
		}
	} else if o.broken != nil {
		return o.broken
	}
	if err := o.flush(false); err != nil {
		return err
	}
	c.count(sent)
	return dropped
}

// settle releases the answers of the batch.
func (c *conn) settle(o *sender) {
	for _, r := range o.batch {
		r.response.release()
		<-c.room
	}
	clear(o.batch)
	o.batch = o.batch[:0]
}

// count notes answers that were sent.
func (c *conn) count(sent []*Request) {
	now := time.Now()
	c.lastWrite.Store(now.UnixNano())
	for _, r := range sent {
		c.server.o.Stats.Request(r.Key, r.response.code, sizeBytes+r.Size, r.sent, time.Duration(r.served.Load()), now.Sub(r.Received))
	}
}
