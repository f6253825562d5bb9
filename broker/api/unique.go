package api

import (
	"github.com/twmb/franz-go/pkg/kmsg"
)

// unique gives the first of all that have the same key, in their order.
//
// Why: a thing that is named takes a few bytes of a request and may take kilobytes of
// its answer; named a hundred thousand times in one request it would take gigabytes.
func unique[T any, K comparable](in []T, key func(*T) K) []T {
	if len(in) < 2 {
		return in
	}
	seen := make(map[K]struct{}, len(in))
	out := make([]T, 0, len(in))
	for i := range in {
		k := key(&in[i])
		if _, twice := seen[k]; !twice {
			seen[k] = struct{}{}
			out = append(out, in[i])
		}
	}
	return out
}

func same[K comparable](k *K) K { return *k }

// wantedKey is what two entries of a metadata request have in common.
type wantedKey struct {
	name  string
	named bool
	id    [16]byte
}

func keyOfWanted(t *kmsg.MetadataRequestTopic) wantedKey {
	k := wantedKey{id: t.TopicID}
	if t.Topic != nil {
		k.name, k.named = *t.Topic, true
	}
	return k
}

// uniqueOffsets leaves each group, topic and partition of an OffsetFetch once.
func uniqueOffsets(req *kmsg.OffsetFetchRequest) *kmsg.OffsetFetchRequest {
	out := *req
	out.Topics = unique(req.Topics, func(t *kmsg.OffsetFetchRequestTopic) string { return t.Topic })
	for i := range out.Topics {
		out.Topics[i].Partitions = unique(out.Topics[i].Partitions, same[int32])
	}
	out.Groups = unique(req.Groups, func(g *kmsg.OffsetFetchRequestGroup) string { return g.Group })
	for i := range out.Groups {
		g := &out.Groups[i]
		g.Topics = unique(g.Topics, func(t *kmsg.OffsetFetchRequestGroupTopic) string { return t.Topic })
		for j := range g.Topics {
			g.Topics[j].Partitions = unique(g.Topics[j].Partitions, same[int32])
		}
	}
	return &out
}
