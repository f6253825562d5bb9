package broker

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
)

func TestPartsStopInReverse(t *testing.T) {
	p := newParts(slog.New(slog.DiscardHandler))
	var order []string
	note := func(name string, err error) func() error {
		return func() error {
			order = append(order, name)
			return err
		}
	}
	p.add("first", note("first", nil))
	p.run("runner", func(ctx context.Context) error {
		<-ctx.Done()
		return note("runner", nil)()
	})
	p.add("last", note("last", errors.New("stuck")))
	err := p.stop()
	if want := []string{"last", "runner", "first"}; !slices.Equal(order, want) {
		t.Errorf("stopped %v, want %v", order, want)
	}
	if err == nil || !strings.Contains(err.Error(), "cannot stop last cleanly: stuck") {
		t.Errorf("stop gives %v", err)
	}
	if err := p.stop(); err != nil || len(order) != 3 {
		t.Errorf("a second stop did something: %v %v", order, err)
	}
}

func TestPartThatEndsIsTold(t *testing.T) {
	for name, cause := range map[string]error{"with an error": errors.New("disk gone"), "without": nil} {
		t.Run(name, func(t *testing.T) {
			p := newParts(slog.New(slog.DiscardHandler))
			p.run("the logs", func(context.Context) error { return cause })
			err := <-p.failed
			if err == nil || !strings.Contains(err.Error(), "the logs") || cause != nil && !errors.Is(err, cause) {
				t.Errorf("told %v", err)
			}
			if err := p.stop(); err != nil {
				t.Errorf("the same error is told twice: %v", err)
			}
		})
	}
}
