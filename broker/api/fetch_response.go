package api

import (
	"encoding/binary"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/wire"
)

// fetchWriter writes a Fetch response by hand: the bytes between records come from
// memory, the records themselves straight from their files.
// Source: Kafka protocol, FetchResponse 0–18.
type fetchWriter struct {
	version int16
	api     *API
	r       *wire.Request
	b       []byte // written and not yet cut off as a piece
	pieces  []wire.Piece
}

// fetchError is a response that carries an error of the whole request.
func fetchError(version, code int16) wire.Response {
	w := fetchWriter{version: version}
	w.head(0, code)
	w.arrayLen(0)
	w.tags()
	w.cut()
	return wire.Pieces(w.pieces, code)
}

// body writes the whole response; what the results hold goes over to the pieces.
func (w *fetchWriter) body(session int32, results []result) []wire.Piece {
	w.b = make([]byte, 0, 64+96*len(results))
	files := 0
	for i := range results {
		if results[i].got.Slice.Len() > 0 {
			files++
		}
	}
	w.pieces = make([]wire.Piece, 0, 2*files+1)
	w.head(session, 0)
	byTopic(results)
	topics := 0
	for i := range results {
		if i == 0 || !sameTopic(&results[i], &results[i-1]) {
			topics++
		}
	}
	w.arrayLen(topics)
	for i := 0; i < len(results); {
		i += w.topic(results[i:])
	}
	w.brokers(results)
	w.cut()
	return w.pieces
}

// topic writes the topic that the results begin with, and gives the number of its partitions.
func (w *fetchWriter) topic(results []result) int {
	n := 1
	for n < len(results) && sameTopic(&results[n], &results[0]) {
		n++
	}
	if w.version >= 13 {
		id := results[0].want.id
		w.b = append(w.b, id[:]...)
	} else {
		w.str(results[0].want.name.Topic)
	}
	w.arrayLen(n)
	for i := range results[:n] {
		w.partition(&results[i])
	}
	w.tags()
	return n
}

func sameTopic(a, b *result) bool {
	return a.want.id == b.want.id && (!a.want.id.IsZero() || a.want.name.Topic == b.want.name.Topic)
}

// byTopic puts the results of a topic together, topics in the order of their first one. Most
// requests name each topic once; sessions turn their partitions.
func byTopic(results []result) {
	var few [16]int
	first := few[:0] // results that begin a topic
	for i := range results {
		if i > 0 && sameTopic(&results[i], &results[i-1]) {
			continue
		}
		if len(first) == len(few) || slices.ContainsFunc(first, func(n int) bool { return sameTopic(&results[n], &results[i]) }) {
			rearrange(results)
			return
		}
		first = append(first, i)
	}
}

// rearrange is byTopic for any number of topics.
func rearrange(results []result) {
	rank := make(map[trackedKey]int)
	for i := range results {
		if k := topicOf(&results[i]); rank[k] == 0 {
			rank[k] = len(rank) + 1
		}
	}
	slices.SortStableFunc(results, func(a, b result) int { return rank[topicOf(&a)] - rank[topicOf(&b)] })
}

func topicOf(res *result) trackedKey {
	k := keyOf(res.want)
	k.partition = 0
	return k
}

func (w *fetchWriter) head(session int32, code int16) {
	if w.version >= 1 {
		w.int32(0) // throttle time
	}
	if w.version >= 7 {
		w.int16(code)
		w.int32(session)
	}
}

func (w *fetchWriter) partition(res *result) {
	w.int32(res.want.name.Partition)
	w.int16(res.code)
	w.int64(int64(res.got.HighWatermark))
	if w.version >= 4 {
		w.int64(int64(res.got.LastStable))
	}
	if w.version >= 5 {
		w.int64(int64(res.got.LogStart))
	}
	if w.version >= 4 {
		w.aborted(res.got.Aborted)
	}
	if w.version >= 11 {
		w.int32(int32(metadata.NoBroker)) // preferred read replica: this one
	}
	w.records(res)
	w.partitionTags(res)
}

// aborted writes the aborted transactions that have records in the answer.
func (w *fetchWriter) aborted(list []storage.Aborted) {
	w.arrayLen(len(list))
	for _, t := range list {
		w.int64(t.ProducerID)
		w.int64(int64(t.First))
		w.tags()
	}
}

// records writes the length and hands the bytes over to a piece. No records are
// empty records, never null: old clients fall over null.
func (w *fetchWriter) records(res *result) {
	if res.old != nil {
		w.bytesLen(len(res.old))
		w.b = append(w.b, res.old...)
		res.drop()
		return
	}
	s := res.got.Slice
	w.bytesLen(s.Len())
	if s.Len() == 0 {
		res.drop()
		return
	}
	w.cut()
	file, at := s.File()
	piece := wire.Piece{File: file, Pos: at, Len: s.Len(), Release: s.Release}
	if file == nil {
		piece.ReadAt = s.ReadAt
	}
	w.pieces = append(w.pieces, piece)
	res.held = false
}

func (w *fetchWriter) partitionTags(res *result) {
	if w.version < 12 {
		return
	}
	leader, epoch := metadata.NoBroker, record.Epoch(-1)
	if res.elsewhere() {
		leader, epoch = w.api.leader(res.want.name, res.part)
	}
	lead := leader != metadata.NoBroker || epoch >= 0 // a deleted topic has none
	var n byte
	if res.diverged {
		n++
	}
	if lead {
		n++
	}
	w.b = append(w.b, n)
	if res.diverged {
		w.b = append(w.b, 0, 4+8+1)
		w.int32(int32(res.endEpoch))
		w.int64(int64(res.endOffset))
		w.b = append(w.b, 0)
	}
	if lead {
		w.b = append(w.b, 1, 4+4+1)
		w.int32(int32(leader))
		w.int32(int32(epoch))
		w.b = append(w.b, 0)
	}
}

// elsewhere tells whether the client is to be told who leads the partition (KIP-951).
func (res *result) elsewhere() bool {
	return res.code == kerr.NotLeaderForPartition.Code || res.code == kerr.FencedLeaderEpoch.Code
}

// brokers ends the response; since version 16 with the addresses of the leaders
// that were named (KIP-951).
func (w *fetchWriter) brokers(results []result) {
	if w.version < 12 {
		return
	}
	var list []byte
	n := 0
	if w.version >= 16 {
		list, n = w.leaders(results)
	}
	if n == 0 {
		w.b = append(w.b, 0)
		return
	}
	w.b = append(w.b, 1, 0) // one tagged field, number 0
	size := binary.AppendUvarint(nil, uint64(n+1))
	w.b = binary.AppendUvarint(w.b, uint64(len(size)+len(list)))
	w.b = append(append(w.b, size...), list...)
}

func (w *fetchWriter) leaders(results []result) (list []byte, n int) {
	seen := map[metadata.BrokerID]bool{}
	for i := range results {
		res := &results[i]
		if !res.elsewhere() {
			continue
		}
		id, _ := w.api.leader(res.want.name, res.part)
		b := w.api.image().Broker(id)
		if b == nil || seen[id] {
			continue
		}
		seen[id] = true
		e, ok := endpoint(b, w.r)
		if !ok {
			continue
		}
		n++
		one := fetchWriter{version: w.version}
		one.int32(int32(id))
		one.str(e.Host)
		one.int32(e.Port)
		if b.Rack == "" {
			one.b = append(one.b, 0)
		} else {
			one.str(b.Rack)
		}
		one.tags()
		list = append(list, one.b...)
	}
	return list, n
}

// cut makes a piece of what was written since the last one.
func (w *fetchWriter) cut() {
	if len(w.b) > 0 {
		w.pieces = append(w.pieces, wire.Piece{Bytes: w.b})
		w.b = w.b[len(w.b):]
	}
}

func (w *fetchWriter) flexible() bool { return w.version >= 12 }
func (w *fetchWriter) int16(v int16)  { w.b = binary.BigEndian.AppendUint16(w.b, uint16(v)) }
func (w *fetchWriter) int32(v int32)  { w.b = binary.BigEndian.AppendUint32(w.b, uint32(v)) }
func (w *fetchWriter) int64(v int64)  { w.b = binary.BigEndian.AppendUint64(w.b, uint64(v)) }

func (w *fetchWriter) arrayLen(n int) {
	if w.flexible() {
		w.b = binary.AppendUvarint(w.b, uint64(n)+1)
		return
	}
	w.int32(int32(n))
}

func (w *fetchWriter) bytesLen(n int) { w.arrayLen(n) }

func (w *fetchWriter) str(s string) {
	if w.flexible() {
		w.b = binary.AppendUvarint(w.b, uint64(len(s))+1)
	} else {
		w.int16(int16(len(s)))
	}
	w.b = append(w.b, s...)
}

// tags ends a struct that has no tagged fields.
func (w *fetchWriter) tags() {
	if w.flexible() {
		w.b = append(w.b, 0)
	}
}
