package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"

	"github.com/belfry-mq/belfry/agent/alarm"
	"github.com/belfry-mq/belfry/agent/gossip"
	"github.com/belfry-mq/belfry/agent/notify"
	"github.com/belfry-mq/belfry/broker"
	"github.com/belfry-mq/belfry/broker/config"
)

// Names of what the agents of a cluster have in common: the service that nodes announce to each
// other, and the state of the evaluators.
const (
	meshService = "AGENT"
	alarmState  = "alarms"
)

var (
	_ gossip.State = (*alarm.Evaluator)(nil)
	_ gossip.State = notify.Shared(nil)
)

// openMesh opens the way to the agents of the other nodes; nil where there is none.
func openMesh(v *config.Values, b *broker.Broker, log *slog.Logger) (*gossip.Mesh, error) {
	at := v.String("agent.cluster.listen")
	host, clustered := b.Between()
	if !clustered {
		if at != "" {
			log.Warn("agent.cluster.listen is not used: this node is alone")
		}
		return nil, nil
	}
	if ip := net.ParseIP(host); at == "" && (host == "localhost" || ip != nil && ip.IsLoopback()) {
		at = net.JoinHostPort(host, "0")
	}
	if at == "" {
		log.Warn("agents do not tell each other of alarms: when another node takes over, an alarm may be told twice; set agent.cluster.listen")
		return nil, nil
	}
	mesh, err := gossip.Open(gossip.Options{
		Listen: at, Node: v.String("node.id"), Cluster: b.ClusterID,
		Peers:  func() []string { return b.Announced(meshService) },
		Secret: v.String("agent.cluster.secret"), Logger: log,
	})
	if errors.Is(err, gossip.ErrNoSecret) {
		return nil, fmt.Errorf("%w: set agent.cluster.secret to the same on all nodes", err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w; see the setting agent.cluster.listen", err)
	}
	return mesh, b.Announce(meshService, mesh.Addr())
}

// union is what joins an office to those of the other nodes. The zero value joins it to none.
type union struct {
	speaker func() alarm.Speaker
	mesh    *gossip.Mesh // nil: the others are not told, and do not tell
}

func (u union) notifiers() notify.Peers {
	if u.mesh == nil {
		return notify.Peers{}
	}
	return notify.Peers{Tell: func(name string, b []byte) { u.mesh.Tell(name, b) }, Settled: u.mesh.AwaitSettled()}
}

func (u union) evaluators(broker string, n *notify.Engine) alarm.Peers {
	p := alarm.Peers{Node: broker, Speaker: u.speaker, ToldThrough: n.ToldThrough}
	if u.mesh != nil {
		p.Tell = func(b []byte) <-chan struct{} { return u.mesh.Tell(alarmState, b) }
	}
	return p
}

func (u union) join(o *office) {
	if u.mesh == nil {
		return
	}
	u.mesh.Add(alarmState, o.alarms)
	for name, s := range o.notify.Shared() {
		u.mesh.Add(name, s)
	}
}
