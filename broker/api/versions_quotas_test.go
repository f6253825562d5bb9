package api_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/brokertest"
)

// quota makes one entry of AlterClientQuotas: an entity as "user=alice client-id"
// (without a name: the default), and quotas as "producer_byte_rate=5 -request_percentage".
func quota(entity, quotas string) kmsg.AlterClientQuotasRequestEntry {
	e := kmsg.NewAlterClientQuotasRequestEntry()
	for _, w := range strings.Fields(entity) {
		part := kmsg.NewAlterClientQuotasRequestEntryEntity()
		name, named := "", false
		if part.Type, name, named = strings.Cut(w, "="); named {
			part.Name = &name
		}
		e.Entity = append(e.Entity, part)
	}
	for _, w := range strings.Fields(quotas) {
		op := kmsg.NewAlterClientQuotasRequestEntryOp()
		name, value, _ := strings.Cut(w, "=")
		op.Key = strings.TrimPrefix(name, "-")
		if op.Remove = op.Key != name; !op.Remove {
			fmt.Sscan(value, &op.Value)
		}
		e.Ops = append(e.Ops, op)
	}
	return e
}

func alterQuotas(v int16, es ...kmsg.AlterClientQuotasRequestEntry) *kmsg.AlterClientQuotasRequest {
	req := kmsg.NewPtrAlterClientQuotasRequest()
	req.Version, req.Entries = v, es
	return req
}

// quotas gives what DescribeClientQuotas shows for a filter: parts like "user=alice",
// "user" (the default) and "user=*" (any).
func (c *rawClient) quotas(v int16, strict bool, filter string) (out []string, code int16) {
	c.t.Helper()
	req := kmsg.NewPtrDescribeClientQuotasRequest()
	req.Version, req.Strict = v, strict
	for _, w := range strings.Fields(filter) {
		part := kmsg.NewDescribeClientQuotasRequestComponent()
		name, named := "", false
		part.EntityType, name, named = strings.Cut(w, "=")
		switch {
		case !named:
			part.MatchType = kmsg.QuotasMatchTypeDefault
		case name == "*":
			part.MatchType = kmsg.QuotasMatchTypeAny
		default:
			part.Match = &name
		}
		req.Components = append(req.Components, part)
	}
	resp := c.ask(req).(*kmsg.DescribeClientQuotasResponse)
	for _, e := range resp.Entries {
		var b strings.Builder
		for _, part := range e.Entity {
			b.WriteString(part.Type)
			if part.Name != nil {
				b.WriteString("=" + *part.Name)
			}
			b.WriteByte(' ')
		}
		for _, value := range e.Values {
			fmt.Fprintf(&b, "%s=%v ", value.Key, value.Value)
		}
		out = append(out, strings.TrimSpace(b.String()))
	}
	return out, resp.ErrorCode
}

func askAlterClientQuotas(t *testing.T, w *world, v int16) {
	req := alterQuotas(v,
		quota("user=alter", "producer_byte_rate=1024 request_percentage=1.5"), quota("user=alter client-id", "consumer_byte_rate=7"),
		quota("ip=10.0.0.1", "connection_creation_rate=3"), quota("planet=mars", "producer_byte_rate=1"), quota("user=bad", "colour=3"),
		quota("user= client-id=x", "producer_byte_rate=1"), quota("user user", "producer_byte_rate=1"))
	resp := w.raw.ask(req).(*kmsg.AlterClientQuotasResponse)
	for i, e := range resp.Entries {
		want := kerr.InvalidRequest
		if i < 3 {
			want = nil
		}
		if code(t, e.ErrorCode, want); len(e.Entity) != len(req.Entries[i].Entity) {
			t.Errorf("answer %+v is not for %+v", e, req.Entries[i])
		}
	}
	want := []string{"user=alter producer_byte_rate=1024 request_percentage=1.5", "user=alter client-id consumer_byte_rate=7"}
	if got, _ := w.raw.quotas(v, false, "user=alter"); !slices.Equal(got, want) {
		t.Errorf("quotas %q, want %q", got, want)
	}
	again := alterQuotas(v, quota("user=alter", "-producer_byte_rate -request_percentage"), quota("user=alter client-id", "-consumer_byte_rate"))
	again.ValidateOnly = true
	w.raw.ask(again)
	if got, _ := w.raw.quotas(v, false, "user=alter"); !slices.Equal(got, want) {
		t.Errorf("quotas %q after a request that only validates, want %q", got, want)
	}
	again.ValidateOnly = false
	w.raw.ask(again)
	if got, _ := w.raw.quotas(v, false, "user=alter"); len(got) != 0 {
		t.Errorf("quotas %q after all were taken back", got)
	}
}

func askDescribeClientQuotas(t *testing.T, w *world, v int16) {
	w.raw.ask(alterQuotas(v, quota("user=a", "producer_byte_rate=1"), quota("user", "producer_byte_rate=2"),
		quota("user=a client-id=c", "producer_byte_rate=3"), quota("client-id=c", "producer_byte_rate=4"), quota("ip", "connection_creation_rate=5")))
	for _, tt := range []struct {
		filter string
		strict bool
		want   []string
	}{
		{"user=a", true, []string{"user=a producer_byte_rate=1"}},
		{"user=a", false, []string{"user=a producer_byte_rate=1", "user=a client-id=c producer_byte_rate=3"}},
		{"user", false, []string{"user producer_byte_rate=2"}},
		{"user=*", true, []string{"user=a producer_byte_rate=1", "user producer_byte_rate=2"}},
		{"client-id=c user=*", true, []string{"user=a client-id=c producer_byte_rate=3"}},
		{"client-id=*", false, []string{"client-id=c producer_byte_rate=4", "user=a client-id=c producer_byte_rate=3"}},
		{"ip", true, []string{"ip connection_creation_rate=5"}},
		{"client-id=nobody", false, nil},
	} {
		got, failed := w.raw.quotas(v, tt.strict, tt.filter)
		code(t, failed, nil)
		got = slices.DeleteFunc(got, func(s string) bool { return strings.Contains(s, "10.0.0.1") || strings.Contains(s, "alter") })
		if !slices.Equal(got, tt.want) {
			t.Errorf("filter %q, strict %v: %q, want %q", tt.filter, tt.strict, got, tt.want)
		}
	}
	if all, _ := w.raw.quotas(v, false, ""); len(all) < 5 {
		t.Errorf("all quotas %q", all)
	}
	_, failed := w.raw.quotas(v, false, "planet=mars")
	code(t, failed, kerr.UnsupportedVersion)
	_, failed = w.raw.quotas(v, false, "user=a user=b")
	code(t, failed, kerr.InvalidRequest)
}

// Quotas are part of the cluster: they are there after a restart.
func TestQuotasAreKept(t *testing.T) {
	node := brokertest.Start(t)
	resp := dialRaw(t, node.Addr()).ask(alterQuotas(1, quota("user=a client-id", "request_percentage=12.25"))).(*kmsg.AlterClientQuotasResponse)
	code(t, resp.Entries[0].ErrorCode, nil)
	node.Restart(nil, nil)
	if got, _ := dialRaw(t, node.Addr()).quotas(1, false, ""); !slices.Equal(got, []string{"user=a client-id request_percentage=12.25"}) {
		t.Errorf("quotas %q after a restart", got)
	}
}
