package controller

import (
	"context"
	"maps"
	"math"
	"net/netip"
	"slices"

	"github.com/belfry-mq/belfry/broker/metadata"
)

// quotaNames are the quotas that an entity may have, and whether they are whole numbers.
// Source: KIP-13, KIP-124, KIP-546, KIP-599 (users and clients); KIP-612 (addresses).
var (
	clientQuotas = map[string]bool{"producer_byte_rate": true, "consumer_byte_rate": true, "request_percentage": false, "controller_mutation_rate": false}
	ipQuotas     = map[string]bool{"connection_creation_rate": true}
)

// maxQuotaEntities bounds what clients may have kept for them.
const maxQuotaEntities = 10_000

// QuotaChange sets one quota, or takes it back.
type QuotaChange struct {
	Name   string
	Value  float64
	Remove bool
}

// QuotaAlter changes the quotas of one entity.
type QuotaAlter struct {
	Entity  metadata.QuotaEntity
	Changes []QuotaChange
}

// AlterQuotas stores client quotas, of each entity all or nothing; errors by
// position. They are kept and shown; nothing is slowed down by them yet.
func (c *Controller) AlterQuotas(ctx context.Context, as []QuotaAlter, validateOnly bool) []error {
	d, end, err := c.begin(ctx)
	if err != nil {
		return same(len(as), err)
	}
	defer end()
	wishes := make([]wish, len(as))
	seen := make(map[metadata.QuotaEntity]bool, len(as))
	entities := d.img.QuotaCount()
	for i, a := range as {
		if seen[a.Entity] {
			wishes[i].err = refuse(codeInvalidRequest, "a quota entity stands in the request more than once; name it once")
			continue
		}
		seen[a.Entity] = true
		wishes[i].records, wishes[i].err = d.alterQuota(a)
		if wishes[i].err != nil || len(wishes[i].records) == 0 || d.img.Quota(a.Entity) != nil {
			continue
		}
		if entities++; entities > maxQuotaEntities {
			wishes[i] = wish{err: refuse(codePolicyViolation, "there are quotas for %d entities already, the most there may be; remove some", maxQuotaEntities)}
		}
	}
	if !validateOnly {
		c.commit(ctx, wishes)
	}
	return errorsOf(wishes)
}

func (d *decision) alterQuota(a QuotaAlter) ([]metadata.Record, error) {
	e := a.Entity
	known := clientQuotas
	if e.IP.Of != metadata.QuotaUnset {
		known = ipQuotas
		if e.User.Of != metadata.QuotaUnset || e.Client.Of != metadata.QuotaUnset {
			return nil, refuse(codeInvalidRequest, "a quota belongs to a user, a client ID, both, or an address; not to an address and something else")
		}
		if _, err := netip.ParseAddr(e.IP.Name); err != nil && e.IP.Of == metadata.QuotaNamed {
			return nil, refuse(codeInvalidRequest, "%q is no address; give it in numbers", e.IP.Name)
		}
	} else if e.User.Of == metadata.QuotaUnset && e.Client.Of == metadata.QuotaUnset {
		return nil, refuse(codeInvalidRequest, "a quota needs a user, a client ID or an address that it belongs to")
	}
	var records []metadata.Record
	seen := make(map[string]bool, len(a.Changes))
	for _, c := range a.Changes {
		whole, ok := known[c.Name]
		value, set := d.img.Quota(e)[c.Name]
		switch {
		case !ok:
			return nil, refuse(codeInvalidRequest, "there is no quota %q for such an entity; there are %v", c.Name, slices.Sorted(maps.Keys(known)))
		case seen[c.Name]:
			return nil, refuse(codeInvalidRequest, "quota %q stands in the request more than once; name it once", c.Name)
		case c.Remove && set:
			records = append(records, &metadata.QuotaRemoved{Entity: e, Name: c.Name})
		case c.Remove:
		case !(c.Value > 0) || math.IsInf(c.Value, 1):
			return nil, refuse(codeInvalidRequest, "quota %q is %v; want a number above 0", c.Name, c.Value)
		case whole && (c.Value != math.Trunc(c.Value) || c.Value > math.MaxInt64):
			return nil, refuse(codeInvalidRequest, "quota %q is %v; want a whole number", c.Name, c.Value)
		case !set || value != c.Value:
			records = append(records, &metadata.QuotaSet{Entity: e, Name: c.Name, Value: c.Value})
		}
		seen[c.Name] = true
	}
	return records, nil
}
