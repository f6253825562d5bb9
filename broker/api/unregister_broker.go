package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/wire"
)

// unregisterBroker answers UnregisterBroker 0 (KIP-631): a broker that is gone for
// good is forgotten, by the metadata log too; one in service, as the asked one, is not.
func (a *API) unregisterBroker(r *wire.Request) {
	req := r.Body.(*kmsg.UnregisterBrokerRequest)
	resp := kmsg.NewPtrUnregisterBrokerResponse()
	ctx, cancel := within(r, int32(patience.Milliseconds()))
	defer cancel()
	err := a.controller.UnregisterBroker(ctx, metadata.BrokerID(req.BrokerID))
	if err == nil {
		err = a.quorum.Forget(ctx, metadata.BrokerID(req.BrokerID))
	}
	if err == nil {
		// Why after it: a broker that is known must have the metadata log, not the other way round.
		err = a.quorum.Forget(ctx, metadata.BrokerID(req.BrokerID))
	}
	resp.ErrorCode, resp.ErrorMessage = a.answer("UnregisterBroker", err)
	r.Answer(wire.Message(resp, resp.ErrorCode))
}
