package api

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/wire"
)

// describeUserSCRAMCredentials answers DescribeUserScramCredentials 0 (KIP-554): no
// user has any, as nobody logs in here. Why served: kafka-configs asks for them
// whenever it describes users. Its counterpart, which would store them, is not served.
func (a *API) describeUserSCRAMCredentials(r *wire.Request) {
	req := r.Body.(*kmsg.DescribeUserSCRAMCredentialsRequest)
	resp := kmsg.NewPtrDescribeUserSCRAMCredentialsResponse()
	for _, u := range unique(req.Users, func(u *kmsg.DescribeUserSCRAMCredentialsRequestUser) string { return u.Name }) {
		one := kmsg.NewDescribeUserSCRAMCredentialsResponseResult()
		one.User, one.ErrorCode = u.Name, kerr.ResourceNotFound.Code
		one.ErrorMessage = text(fmt.Sprintf("user %q has no SCRAM credentials", u.Name))
		resp.Results = append(resp.Results, one)
	}
	r.Answer(wire.Message(resp, 0))
}
