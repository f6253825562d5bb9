package api

import (
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/controller"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/wire"
)

// Kinds of quota entities in the protocol.
// Source: KIP-546, KIP-612.
const (
	quotaUser   = "user"
	quotaClient = "client-id"
	quotaIP     = "ip"
)

// quotaPart finds the part of an entity that a kind names; nil for an unknown kind.
func quotaPart(e *metadata.QuotaEntity, kind string) *metadata.QuotaName {
	switch kind {
	case quotaUser:
		return &e.User
	case quotaClient:
		return &e.Client
	case quotaIP:
		return &e.IP
	}
	return nil
}

// alterClientQuotas answers AlterClientQuotas 0–1 (KIP-546). Quotas are kept and
// shown; no client is slowed down by them yet.
func (a *API) alterClientQuotas(r *wire.Request) {
	req := r.Body.(*kmsg.AlterClientQuotasRequest)
	resp := kmsg.NewPtrAlterClientQuotasResponse()
	errs := make([]error, len(req.Entries))
	var as []controller.QuotaAlter
	var at []int
	for i := range req.Entries {
		one, err := quotaAlter(&req.Entries[i])
		if errs[i] = err; err == nil {
			as, at = append(as, one), append(at, i)
		}
	}
	ctx, cancel := within(r, int32(patience.Milliseconds()))
	defer cancel()
	for n, err := range a.controller.AlterQuotas(ctx, as, req.ValidateOnly) {
		errs[at[n]] = err
	}
	var code first
	for i, e := range req.Entries {
		re := kmsg.NewAlterClientQuotasResponseEntry()
		re.ErrorCode, re.ErrorMessage = a.answer("AlterClientQuotas", errs[i])
		code.see(re.ErrorCode)
		for _, part := range e.Entity {
			rp := kmsg.NewAlterClientQuotasResponseEntryEntity()
			rp.Type, rp.Name = part.Type, part.Name
			re.Entity = append(re.Entity, rp)
		}
		resp.Entries = append(resp.Entries, re)
	}
	r.Answer(wire.Message(resp, int16(code)))
}

func quotaAlter(e *kmsg.AlterClientQuotasRequestEntry) (controller.QuotaAlter, error) {
	var out controller.QuotaAlter
	for _, part := range e.Entity {
		n := quotaPart(&out.Entity, part.Type)
		switch {
		case n == nil:
			return out, refuse(kerr.InvalidRequest, fmt.Sprintf("there are no quotas for entity type %q; known are user, client-id and ip", part.Type))
		case n.Of != metadata.QuotaUnset:
			return out, refuse(kerr.InvalidRequest, fmt.Sprintf("entity type %q stands in one entity more than once", part.Type))
		case part.Name == nil:
			n.Of = metadata.QuotaDefault
		case *part.Name == "":
			return out, refuse(kerr.InvalidRequest, fmt.Sprintf("the name for entity type %q is empty; null is the default", part.Type))
		default:
			*n = metadata.QuotaName{Of: metadata.QuotaNamed, Name: *part.Name}
		}
	}
	for _, op := range e.Ops {
		out.Changes = append(out.Changes, controller.QuotaChange{Name: op.Key, Value: op.Value, Remove: op.Remove})
	}
	return out, nil
}

// describeClientQuotas answers DescribeClientQuotas 0–1 (KIP-546).
func (a *API) describeClientQuotas(r *wire.Request) {
	req := r.Body.(*kmsg.DescribeClientQuotasRequest)
	resp := kmsg.NewPtrDescribeClientQuotasResponse()
	matches, err := quotaFilter(req)
	resp.ErrorCode, resp.ErrorMessage = a.answer("DescribeClientQuotas", err)
	if err == nil {
		resp.Entries = []kmsg.DescribeClientQuotasResponseEntry{}
		for _, q := range a.image().Quotas() {
			if matches(q.Entity) {
				resp.Entries = append(resp.Entries, describeQuota(q))
			}
		}
	}
	r.Answer(wire.Message(resp, resp.ErrorCode))
}

func describeQuota(q metadata.Quota) kmsg.DescribeClientQuotasResponseEntry {
	e := kmsg.NewDescribeClientQuotasResponseEntry()
	for _, kind := range []string{quotaUser, quotaClient, quotaIP} {
		if n := quotaPart(&q.Entity, kind); n.Of != metadata.QuotaUnset {
			part := kmsg.NewDescribeClientQuotasResponseEntryEntity()
			part.Type, part.Name = kind, text(n.Name) // null is the default
			e.Entity = append(e.Entity, part)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(q.Values)) {
		v := kmsg.NewDescribeClientQuotasResponseEntryValue()
		v.Key, v.Value = name, q.Values[name]
		e.Values = append(e.Values, v)
	}
	return e
}

// quotaFilter tells which entities a request asks for: those that each of its parts
// matches, and with Strict no others beside them.
func quotaFilter(req *kmsg.DescribeClientQuotasRequest) (func(metadata.QuotaEntity) bool, error) {
	type part struct {
		kind string
		any  bool
		want metadata.QuotaName
	}
	var parts []part
	var asked metadata.QuotaEntity
	for _, c := range req.Components {
		seen := quotaPart(&asked, c.EntityType)
		p := part{kind: c.EntityType}
		switch {
		case seen == nil:
			return nil, refuse(kerr.UnsupportedVersion, fmt.Sprintf("there are no quotas for entity type %q; known are user, client-id and ip", c.EntityType))
		case seen.Of != metadata.QuotaUnset:
			return nil, refuse(kerr.InvalidRequest, fmt.Sprintf("entity type %q stands in the filter more than once", c.EntityType))
		case c.MatchType == kmsg.QuotasMatchTypeExact && c.Match != nil:
			p.want = metadata.QuotaName{Of: metadata.QuotaNamed, Name: *c.Match}
		case c.MatchType == kmsg.QuotasMatchTypeDefault && c.Match == nil:
			p.want.Of = metadata.QuotaDefault
		case c.MatchType == kmsg.QuotasMatchTypeAny && c.Match == nil:
			p.any = true
		default:
			return nil, refuse(kerr.InvalidRequest, fmt.Sprintf("match type %d of entity type %q: want 0 exactly one name, 1 the default or 2 any, and a name only with 0", c.MatchType, c.EntityType))
		}
		seen.Of = metadata.QuotaDefault
		parts = append(parts, p)
	}
	return func(e metadata.QuotaEntity) bool {
		rest := e
		for _, p := range parts {
			n := quotaPart(&rest, p.kind)
			if n.Of == metadata.QuotaUnset || !p.any && *n != p.want {
				return false
			}
			*n = metadata.QuotaName{}
		}
		return !req.Strict || rest == metadata.QuotaEntity{}
	}, nil
}
