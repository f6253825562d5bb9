package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/quorum"
	"github.com/belfry-mq/belfry/broker/storage"
)

// membership is how this node takes part in a cluster. Nil: it is alone.
type membership struct {
	listen    string         // HOST:PORT of the controller listener
	advertise string         // where the others find it; "": listen
	first     []quorum.Voter // the first controllers
	join      *quorum.Token
}

// readMembership reads the settings of a cluster.
//
// Errors: the setting and what is wrong with it.
func readMembership(v *config.Values, node metadata.BrokerID) (*membership, error) {
	m := &membership{listen: v.String("controller.listener")}
	var err error
	if m.first, err = quorum.ParseVoters(v.List("controller.quorum.voters")); err != nil {
		return nil, fmt.Errorf("cannot use controller.quorum.voters: %w", err)
	}
	if text := v.String("join"); text != "" {
		t, err := quorum.ParseToken(text)
		if err != nil {
			return nil, fmt.Errorf("cannot use the setting join: %w", err)
		}
		m.join = &t
	}
	if at := slices.IndexFunc(m.first, func(f quorum.Voter) bool { return f.Node == node }); at >= 0 {
		m.advertise = m.first[at].Address
		if m.listen == "" {
			m.listen = m.advertise
		}
	}
	switch {
	case m.listen == "" && (len(m.first) > 0 || m.join != nil):
		return nil, fmt.Errorf("cannot take part in a cluster: node %d is not in controller.quorum.voters, and controller.listener does not say where the other nodes find it", node)
	case m.listen == "":
		return nil, nil
	}
	if _, _, err := net.SplitHostPort(m.listen); err != nil {
		return nil, fmt.Errorf("cannot use %q as controller.listener: it is not HOST:PORT", m.listen)
	}
	return m, nil
}

// open opens the controller listener; the quorum closes it.
func (m *membership) open() (*quorum.Network, error) {
	l, err := net.Listen("tcp", m.listen)
	if err != nil {
		return nil, listenError("CONTROLLER", m.listen, "controller.listener", err)
	}
	n := &quorum.Network{Listener: l, Address: m.advertise, First: m.first, Join: m.join}
	if n.Address != "" {
		return n, nil
	}
	host, _, err := net.SplitHostPort(m.listen)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		host, err = os.Hostname()
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("cannot tell other nodes where the controller listener is: set controller.listener to an address of this machine: %w", err)
	}
	n.Address = net.JoinHostPort(host, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	return n, nil
}

// enter makes this node a member of its cluster and opens the logs, which must be of
// the same one. Why in this order: what meta.properties says is known only then (R23).
func (b *Broker) enter(ctx context.Context, r *rooms, p *parts) error {
	b.step("opening the metadata log")
	known, err := storage.ClusterOf(b.fs, b.dirs)
	if err != nil {
		return err
	}
	network, err := b.membership.open()
	if err != nil {
		return err
	}
	r.quorum, err = quorum.Open(quorum.Options{
		Dir: filepath.Join(b.dirs[0], quorum.DirName), Node: b.node, ClusterID: known, Network: network,
		Heartbeat: b.values.Duration("controller.quorum.fetch.timeout.ms"), Logger: b.log, Now: b.now,
	})
	if err != nil {
		return errors.Join(err, ignoreClosed(network.Listener.Close()))
	}
	p.add("the metadata log's files", r.quorum.Close)
	b.step("entering the cluster")
	if err := r.quorum.Enter(ctx, b.step); err != nil {
		return err
	}
	b.step("recovering logs")
	return b.openStore(r, p, r.quorum.ClusterID())
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// remindEvery is how often a node looks why it still waits for a leader.
const remindEvery = time.Second

// follow waits until a leader is known and this node has caught up with it.
func (b *Broker) follow(ctx context.Context, q *quorum.Quorum) error {
	for {
		short, cancel := context.WithTimeout(ctx, remindEvery)
		err := q.WaitCaughtUp(short)
		cancel()
		if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		b.step(q.Waiting())
	}
}

// reign does, whenever this node begins to lead the metadata log, what a leader does first.
func (b *Broker) reign(ctx context.Context, r *rooms) error {
	for {
		leads, changed := r.quorum.Leading()
		if leads {
			err := b.firstDuties(ctx, r)
			switch {
			case ctx.Err() != nil:
				return nil
			case err == nil:
			case errors.Is(err, errVersion):
				return err
			default:
				b.log.Warn("a new leader of the metadata log could not do its first duties", "err", err)
				leads = false
			}
		}
		if !leads {
			select {
			case <-time.After(remindEvery): // and looks again, should they have failed
			case <-changed:
			case <-ctx.Done():
				return nil
			}
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

func (b *Broker) firstDuties(ctx context.Context, r *rooms) error {
	if err := b.fixVersion(ctx, r.quorum); err != nil {
		return err
	}
	if err := r.control.FinalizeFeatures(ctx); err != nil {
		return fmt.Errorf("cannot write the levels of features down: %w", err)
	}
	return nil
}

// awaitDuties waits until a leader has done its first duties, and refuses to go on if
// the instance has another version than this node's setting.
func (b *Broker) awaitDuties(ctx context.Context, r *rooms) error {
	for r.quorum.Image().Features()[versionFeature] == 0 {
		b.step("waiting for the leader of the metadata log to begin")
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return b.checkVersion(r.quorum.Image())
}

// watchMetadata ends this node when its metadata log has failed: it would go on
// leading partitions that the cluster has given to others (R16, R19).
func (b *Broker) watchMetadata(ctx context.Context, q *quorum.Quorum) error {
	select {
	case <-q.Failed():
		return q.Failure()
	case <-ctx.Done():
		return nil
	}
}
