package peer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/belfry-mq/belfry/broker/metadata"
)

// line is one lane to one broker: at most one connection at a time.
type line struct {
	client *Client
	to     metadata.BrokerID
	turn   chan struct{} // holds one token: who may dial; guards fails and again
	fails  int           // dials that failed since the last that did not
	again  time.Time     // no dial before
	conn   atomic.Pointer[conn]
}

func newLine(c *Client, to metadata.BrokerID) *line {
	l := &line{client: c, to: to, turn: make(chan struct{}, 1)}
	l.turn <- struct{}{}
	return l
}

// connect gives the connection, a new one if there is none that is good.
func (l *line) connect(ctx context.Context) (*conn, error) {
	select {
	case <-l.turn:
	case <-ctx.Done():
		return nil, unreachable(ctx.Err())
	case <-l.client.ctx.Done():
		return nil, ErrClosed
	}
	defer func() { l.turn <- struct{}{} }()
	address, err := l.client.address(l.to)
	if err != nil {
		l.drop()
		// Why a wait: who asks again and again would otherwise spin until the image has it.
		return nil, errors.Join(err, l.pause(ctx, minBackOff))
	}
	if conn := l.conn.Load(); conn != nil && conn.alive() && conn.address == address {
		return conn, nil
	}
	l.drop()
	if err := l.pause(ctx, time.Until(l.again)); err != nil {
		return nil, err
	}
	conn, err := l.dial(ctx, address)
	if err != nil && ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled) {
		return nil, unreachable(ctx.Err()) // says nothing about the broker
	}
	if err != nil {
		l.again = time.Now().Add(backOff(l.fails))
		l.fails++
		return nil, unreachable(err)
	}
	l.fails, l.again = 0, time.Time{}
	l.conn.Store(conn)
	if l.client.ctx.Err() != nil { // Close may have looked before
		conn.fail(ErrClosed)
		return nil, ErrClosed
	}
	return conn, nil
}

func unreachable(err error) error {
	if errors.Is(err, ErrUnreachable) || errors.Is(err, ErrClosed) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}

// backOff gives the wait after so many failures: doubling, with up to a half less by chance.
func backOff(fails int) time.Duration {
	wait := min(maxBackOff, minBackOff<<min(fails, 10))
	return wait - rand.N(wait/2)
}

// pause waits; its error says that it ended early.
func (l *line) pause(ctx context.Context, wait time.Duration) error {
	if wait <= 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return unreachable(ctx.Err())
	case <-l.client.ctx.Done():
		return ErrClosed
	}
}

// dial makes a connection and learns what the broker serves.
func (l *line) dial(ctx context.Context, address string) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	stop := context.AfterFunc(l.client.ctx, cancel)
	defer stop()
	socket, err := l.client.o.Dial(ctx, l.to, address)
	if err != nil {
		return nil, err
	}
	c := newConn(l.client, socket, address)
	interrupt := context.AfterFunc(ctx, func() { _ = socket.SetDeadline(time.Unix(1, 0)) })
	err = c.greet()
	if !interrupt() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	l.client.wg.Go(c.read)
	return c, nil
}

// drop lets the connection go.
func (l *line) drop() {
	if c := l.conn.Swap(nil); c != nil {
		c.fail(errors.New("the broker has moved"))
	}
}

// close ends the connection; a dial that is under way ends by the client's context.
func (l *line) close() {
	if c := l.conn.Load(); c != nil {
		c.fail(ErrClosed)
	}
}
