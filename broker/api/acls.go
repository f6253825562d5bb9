package api

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/wire"
)

// There is no access control: nothing is denied, no rule is kept. A rule that was
// taken and not applied would be a lie, so every request about rules is refused as
// Kafka without an authorizer refuses it.
const noAccessControl = "access control is not configured: everybody who can connect may do everything"

// describeACLs answers DescribeAcls 0–3.
func (a *API) describeACLs(r *wire.Request) {
	resp := kmsg.NewPtrDescribeACLsResponse()
	resp.ErrorCode, resp.ErrorMessage = kerr.SecurityDisabled.Code, text(noAccessControl)
	r.Answer(wire.Message(resp, resp.ErrorCode))
}

// createACLs answers CreateAcls 0–3.
func (a *API) createACLs(r *wire.Request) {
	resp := kmsg.NewPtrCreateACLsResponse()
	for range r.Body.(*kmsg.CreateACLsRequest).Creations {
		one := kmsg.NewCreateACLsResponseResult()
		one.ErrorCode, one.ErrorMessage = kerr.SecurityDisabled.Code, text(noAccessControl)
		resp.Results = append(resp.Results, one)
	}
	r.Answer(wire.Message(resp, kerr.SecurityDisabled.Code))
}

// deleteACLs answers DeleteAcls 0–3.
func (a *API) deleteACLs(r *wire.Request) {
	resp := kmsg.NewPtrDeleteACLsResponse()
	for range r.Body.(*kmsg.DeleteACLsRequest).Filters {
		one := kmsg.NewDeleteACLsResponseResult()
		one.ErrorCode, one.ErrorMessage = kerr.SecurityDisabled.Code, text(noAccessControl)
		resp.Results = append(resp.Results, one)
	}
	r.Answer(wire.Message(resp, kerr.SecurityDisabled.Code))
}
