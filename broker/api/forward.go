package api

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/controller"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/peer"
	"github.com/belfry-mq/belfry/broker/quorum"
	"github.com/belfry-mq/belfry/broker/wire"
)

// Lanes to other brokers.
const (
	laneForward = "forward"
)

// Tags of an Envelope's answer; Kafka has none. They are numbered far from what it may
// get: who does not know them leaves them alone.
const (
	tagIndex = 10_000 // 8 bytes: the index of the image that the answer is of
	tagCode  = 10_001 // 2 bytes: the first error code in it, for the statistics
)

// noLeaderPause is how long a request waits before it looks for a controller again.
const noLeaderPause = 20 * time.Millisecond

// elsewhere tells that another node decides about the cluster.
func (a *API) elsewhere() bool {
	if a.peers == nil {
		return false
	}
	leads, _ := a.quorum.Leading()
	return !leads
}

// controllerID gives the active controller's broker as a session is told. While there is none, brokers and the
// agent are told so by -1, and clients are sent to this broker. Why: any broker takes management requests and sends them
// on once there is a controller again, and there are clients that give up when they hear of none (kafka-python 2.0).
func (a *API) controllerID(img *metadata.Image, s *wire.Session) int32 {
	known := func(id metadata.BrokerID) bool { b := img.Broker(id); return b != nil && !b.Fenced }
	if id := a.quorum.Leader(); known(id) {
		return int32(id)
	}
	if s != nil && s.Software != peer.Software && s.Software != Agent && known(a.node) {
		return int32(a.node)
	}
	return -1
}

// forward has the active controller serve a request (KIP-590) and answers once this
// node has seen what it changed. Where there is no controller in time, the request is
// served here, which says so in its own words.
func (a *API) forward(r *wire.Request, row row) {
	ctx, cancel := within(r, timeoutOf(r.Body))
	defer cancel()
	var host net.IP
	if tcp, ok := r.Session.Remote.(*net.TCPAddr); ok {
		host = tcp.IP
	}
	resp, code, err := a.envelop(ctx, r.Body, r.Correlation, r.ClientID, host)
	if err != nil {
		a.log.Debug("a request was not sent on to the controller", "api", kmsg.NameForKey(r.Key), "err", err)
		row.handle(a, r)
		return
	}
	r.Answer(wire.Message(resp, code))
}

// timeoutOf gives how long a request may take.
//
// Units: ms.
func timeoutOf(req kmsg.Request) int32 {
	if t, ok := req.(kmsg.TimeoutRequest); ok {
		return t.Timeout()
	}
	return int32(patience.Milliseconds())
}

// errHere says that this node has become the active controller.
var errHere = errors.New("this node is the active controller")

// controllerDo finds the active controller and asks it, again when there is another one
// or it cannot be reached. What it says may be NOT_CONTROLLER: stale tells so.
//
// Errors: errHere; the last trouble when ctx ends.
func (a *API) controllerDo(ctx context.Context, lane string, req kmsg.Request, stale func(kmsg.Response) bool) (kmsg.Response, error) {
	var last error
	for {
		if leads, _ := a.quorum.Leading(); leads {
			return nil, errHere
		}
		if to := a.quorum.Leader(); to != metadata.NoBroker && to != a.node {
			resp, err := a.peers.Do(ctx, to, lane, req)
			switch {
			case err == nil && !stale(resp):
				return resp, nil
			case errors.Is(err, peer.ErrVersion) || errors.Is(err, peer.ErrClosed):
				return nil, err
			case err != nil:
				last = err
			}
		}
		select {
		case <-ctx.Done():
			if last == nil {
				last = quorum.ErrNoLeader
			}
			return nil, fmt.Errorf("cannot reach the active controller: %w", last)
		case <-time.After(noLeaderPause):
		}
	}
}

// envelop sends a request to the active controller and gives its answer, with the first
// error code in it.
func (a *API) envelop(ctx context.Context, req kmsg.Request, correlation int32, clientID *string, host net.IP) (kmsg.Response, int16, error) {
	e := kmsg.NewPtrEnvelopeRequest()
	format := kmsg.NewRequestFormatter()
	if clientID != nil {
		format = kmsg.NewRequestFormatter(kmsg.FormatterClientID(*clientID))
	}
	e.RequestData = format.AppendRequest(nil, req, correlation)[4:] // without its size
	e.ClientHostAddress = host
	resp, err := a.controllerDo(ctx, laneForward, e, func(r kmsg.Response) bool {
		return r.(*kmsg.EnvelopeResponse).ErrorCode == kerr.NotController.Code
	})
	if err != nil {
		return nil, 0, err
	}
	answer := resp.(*kmsg.EnvelopeResponse)
	if err := kerr.ErrorForCode(answer.ErrorCode); err != nil {
		return nil, 0, fmt.Errorf("cannot have the controller serve %s: %w", kmsg.NameForKey(req.Key()), err)
	}
	inner, code, index, err := open(req, answer)
	if err != nil {
		return nil, 0, err
	}
	// Why: a client that made a topic looks for it here next.
	if err := a.seen(ctx, index); err != nil {
		return nil, 0, err
	}
	return inner, code, nil
}

// open reads what an Envelope's answer holds.
func open(req kmsg.Request, e *kmsg.EnvelopeResponse) (resp kmsg.Response, code int16, index uint64, err error) {
	e.UnknownTags.Each(func(tag uint32, v []byte) {
		switch {
		case tag == tagIndex && len(v) == 8:
			index = binary.BigEndian.Uint64(v)
		case tag == tagCode && len(v) == 2:
			code = int16(binary.BigEndian.Uint16(v))
		}
	})
	body, resp := e.ResponseData, req.ResponseKind()
	head := 4 // correlation ID
	if resp.IsFlexible() {
		head++ // no tags
	}
	if len(body) < head {
		return nil, 0, 0, fmt.Errorf("cannot read the controller's answer to %s: it is cut short", kmsg.NameForKey(req.Key()))
	}
	if err := resp.ReadFrom(body[head:]); err != nil {
		return nil, 0, 0, fmt.Errorf("cannot read the controller's answer to %s: %w", kmsg.NameForKey(req.Key()), err)
	}
	return resp, code, index, nil
}

// envelope answers Envelope 0 (KIP-590): a request of another broker's client.
func (a *API) envelope(r *wire.Request) {
	req := r.Body.(*kmsg.EnvelopeRequest)
	refuse := func(code *kerr.Error) {
		resp := kmsg.NewPtrEnvelopeResponse()
		resp.ErrorCode = code.Code
		r.Answer(wire.Message(resp, code.Code))
	}
	if leads, _ := a.quorum.Leading(); !leads {
		refuse(kerr.NotController)
		return
	}
	session := *r.Session
	if len(req.ClientHostAddress) > 0 {
		session.Remote = &net.TCPAddr{IP: net.IP(req.ClientHostAddress)}
	}
	inner, err := r.Inner(req.RequestData, &session, func(resp kmsg.Response, code int16) {
		if resp == nil {
			refuse(kerr.InvalidRequest)
			return
		}
		r.Answer(wire.Message(a.sealed(resp, code, int32(binary.BigEndian.Uint32(req.RequestData[4:]))), code))
	})
	if err != nil {
		a.log.Warn("another broker sent on what cannot be served", "err", err)
		refuse(kerr.InvalidRequest)
		return
	}
	row, ok := a.brokers[inner.Key]
	if !ok || !changes(inner.Key) {
		refuse(kerr.InvalidRequest)
		return
	}
	if !a.later(func() { row.handle(a, inner) }) {
		refuse(kerr.NotController) // it stops; another one will take over
	}
}

// sealed puts an answer into an Envelope's.
func (a *API) sealed(resp kmsg.Response, code int16, correlation int32) *kmsg.EnvelopeResponse {
	e := kmsg.NewPtrEnvelopeResponse()
	e.ResponseData = binary.BigEndian.AppendUint32(nil, uint32(correlation))
	if resp.IsFlexible() {
		e.ResponseData = append(e.ResponseData, 0)
	}
	e.ResponseData = resp.AppendTo(e.ResponseData)
	e.UnknownTags.Set(tagIndex, binary.BigEndian.AppendUint64(nil, a.image().Index()))
	e.UnknownTags.Set(tagCode, binary.BigEndian.AppendUint16(nil, uint16(code)))
	return e
}

// createTopic makes a topic by itself, not for a client's CreateTopics, wherever the
// controller is.
func (a *API) createTopic(ctx context.Context, n controller.NewTopic) error {
	if !a.elsewhere() {
		return a.controller.CreateTopics(ctx, []controller.NewTopic{n}, false)[0].Err
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Version = 5
	req.TimeoutMillis = int32(patience.Milliseconds())
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = n.Name, n.Partitions, n.Replicas
	for _, name := range sortedNames(n.Configs) {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		value := n.Configs[name]
		c.Name, c.Value = name, &value
		t.Configs = append(t.Configs, c)
	}
	req.Topics = append(req.Topics, t)
	resp, _, err := a.envelop(ctx, req, 0, nil, nil)
	if errors.Is(err, errHere) {
		return a.controller.CreateTopics(ctx, []controller.NewTopic{n}, false)[0].Err
	}
	if err != nil {
		return err
	}
	made := resp.(*kmsg.CreateTopicsResponse).Topics
	if len(made) != 1 {
		return fmt.Errorf("cannot create topic %q: the controller speaks of %d topics", n.Name, len(made))
	}
	if made[0].ErrorCode == 0 {
		return nil
	}
	text := fmt.Sprintf("cannot create topic %q", n.Name)
	if made[0].ErrorMessage != nil {
		text = *made[0].ErrorMessage
	}
	return &controller.Refusal{Code: made[0].ErrorCode, Message: text}
}
