package collect

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-mq/belfry/agent/cluster"
	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/agent/sampler"
)

// answers is a cluster whose answer is set.
type answers struct{ err error }

func (a *answers) Pass(context.Context) (*cluster.State, error) {
	if a.err != nil {
		return nil, a.err
	}
	return &cluster.State{Committed: time.Now(), Ended: time.Now(), Brokers: []cluster.Broker{{ID: 3}}}, nil
}

// TestASlowBrokerIsNotADeadOne: what refuses is offline at once, what is late only when it stays so.
func TestASlowBrokerIsNotADeadOne(t *testing.T) {
	late := fmt.Errorf("%w: %w", cluster.ErrUnreachable, context.DeadlineExceeded)
	refused := fmt.Errorf("%w: %w", cluster.ErrUnreachable, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)})
	synctest.Test(t, func(t *testing.T) {
		a := &answers{}
		before := Roll{At: time.Now(), Listed: []int32{3}} // an answer from before says nothing after a refusal
		c := NewCluster(ClusterOptions{Passer: a, Roll: func() Roll { return before }})
		for i, step := range []struct {
			wait time.Duration
			err  error
			want string
		}{
			{0, nil, "1"}, {time.Second, late, "1"}, {8 * time.Second, late, "1"}, {2 * time.Second, late, "0"},
			{time.Second, nil, "1"}, {time.Second, late, "1"}, {time.Second, refused, "0"}, {time.Second, late, "0"}, {time.Second, nil, "1"},
		} {
			time.Sleep(step.wait) // the bubble's clock
			a.err = step.err
			now := time.Now()
			samples, _ := c.Collect(t.Context(), sampler.Period{Start: now.Add(-time.Second), End: now, Elapsed: time.Second})
			got := ""
			for _, s := range samples {
				if s.ID == metric.BrokerAlive {
					got = fmt.Sprint(s.Value)
				}
			}
			if got != step.want {
				t.Errorf("step %d: broker_alive %q, want %q", i, got, step.want)
			}
		}
	})
}

// TestWhatAnEarlierProcessKnew: its brokers are missed until the cluster answers, and forgotten then.
func TestWhatAnEarlierProcessKnew(t *testing.T) {
	a := &answers{err: fmt.Errorf("%w: %w", cluster.ErrUnreachable, errors.New("connection refused"))}
	var met []string
	c := NewCluster(ClusterOptions{Passer: a, Known: []int32{5}, Met: func(brokers []int32) { met = append(met, fmt.Sprint(brokers)) }})
	alive := func() string {
		samples, _ := c.Collect(t.Context(), sampler.Period{Start: time.Now().Add(-time.Second), End: time.Now(), Elapsed: time.Second})
		text := ""
		for _, s := range samples {
			if s.ID == metric.BrokerAlive {
				text += fmt.Sprint(s.Labels, s.Value)
			}
		}
		return text
	}
	if got := alive(); got != "[{kafka_broker 5}] 0" {
		t.Errorf("before the first answer: %s", got)
	}
	a.err = nil
	for range 2 {
		if got := alive(); got != "[{kafka_broker 3}] 1" {
			t.Errorf("after it: %s", got)
		}
	}
	if got := fmt.Sprint(met); got != "[[3]]" {
		t.Errorf("met %s", got)
	}
}
