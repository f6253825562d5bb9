package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"

	"golang.org/x/sync/errgroup"

	"github.com/belfry-mq/belfry/agent"
)

// lookout is what runs of an agent, beside a broker or alone: its records, its parts, and the
// port that shows them.
type lookout struct {
	log    *slog.Logger
	office *office
	agent  *agent.Agent
	web    *http.Server
	door   net.Listener // of web; nil: nothing is served
}

// watch runs until ctx ends. What the parts record as they end is kept.
func (l *lookout) watch(ctx context.Context) error {
	officeCtx, closeOffice := context.WithCancel(context.WithoutCancel(ctx))
	defer closeOffice()
	var g errgroup.Group
	g.Go(func() error { return l.office.run(officeCtx) })
	if l.web != nil {
		g.Go(func() error {
			if err := l.web.Serve(l.door); !errors.Is(err, http.ErrServerClosed) {
				l.log.Error("the metrics port has failed", "err", err)
			}
			return nil
		})
	}
	err := l.agent.Run(ctx)
	closeOffice()
	if l.web != nil {
		_ = l.web.Close() // its listener is all there is to close
	}
	return errors.Join(err, g.Wait())
}
