package features

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
)

// faults is the address of who ends nodes and starts them again; "" = nobody does.
func faults() string { return os.Getenv("BELFRY_FAULTS") }

// Failover is how a client writes to one partition and reads it, both all along.
type Failover struct {
	// Send sends values with one producer and waits for the answers.
	Send func(ctx context.Context, values []string) error
	// Read gives some values that one consumer read next, perhaps none.
	Read func(ctx context.Context) ([]string, error)
	// Twice: the client has no idempotence, so that a value may arrive more than once.
	Twice bool
}

// Survive has the leader of the partition killed and started again: each value arrives, in order.
func Survive(ctx context.Context, f Failover) error {
	var sent, got []string
	for _, step := range []struct{ fault, name string }{{"", "before"}, {"kill", "without it"}, {"restart", "after"}} {
		if err := ask(ctx, step.fault); err != nil {
			return err
		}
		var values []string
		for i := range 50 {
			values = append(values, fmt.Sprintf("%s %d", step.name, i))
		}
		if err := f.Send(ctx, values); err != nil {
			return fmt.Errorf("cannot send the values %q: %w", step.name, err)
		}
		sent = append(sent, values...)
		for missing(sent, got) > 0 {
			some, err := f.Read(ctx)
			if err != nil {
				return fmt.Errorf("cannot read the values %q: %w", step.name, err)
			}
			if ctx.Err() != nil {
				return fmt.Errorf("%d of %d values %q and before did not arrive", missing(sent, got), len(sent), step.name)
			}
			got = append(got, some...)
		}
	}
	if f.Twice {
		return nil
	}
	return EqualAll(got, sent, "values")
}

func missing(sent, got []string) int {
	n := 0
	for _, value := range sent {
		if !slices.Contains(got, value) {
			n++
		}
	}
	return n
}

// Known waits until every node has heard of a new topic.
func Known(ctx context.Context, topic string) error { return heard(ctx, "known", topic) }

// Gone waits until every node has heard of a topic's deletion.
func Gone(ctx context.Context, topic string) error { return heard(ctx, "gone", topic) }

func heard(ctx context.Context, what, topic string) error {
	if faults() == "" {
		return nil // one node: it has
	}
	return ask(ctx, what+"/"+topic)
}

// ask waits for a fault.
func ask(ctx context.Context, fault string) error {
	if fault == "" {
		return nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, faults()+"/"+fault, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	return Equal(answer.StatusCode, http.StatusOK, "answer to "+fault)
}
