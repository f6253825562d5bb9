package api

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/replica"
	"github.com/belfry-mq/belfry/broker/storage"
	"github.com/belfry-mq/belfry/broker/topic"
	"github.com/belfry-mq/belfry/broker/wire"
)

// fetch answers Fetch 0–18: reads at once if there is enough, else waits in a
// goroutine of its own until there is, the client's time is over, the connection is
// gone or the broker stops (long poll). At least one whole batch is returned even if
// it is larger than every limit (KIP-74). Sessions (KIP-227) are in fetch_session.go,
// the bytes of the answer in fetch_response.go.
func (a *API) fetch(r *wire.Request) {
	req := r.Body.(*kmsg.FetchRequest)
	a.hearFull(r, replicaOf(req), &req.UnknownTags)
	f := &fetchCall{api: a, r: r, req: req}
	if err := f.open(); err != nil {
		code, _ := a.answer("Fetch", err)
		r.Answer(fetchError(req.Version, code))
		return
	}
	if f.session != nil {
		f.over = f.session.superseded()
	}
	f.read()
	if f.enough() || f.wait() <= 0 {
		f.send()
		return
	}
	f.rest()
	if !a.later(f.park) {
		f.read()
		f.send()
	}
}

// wanted is one partition that a fetch asks for.
type wanted struct {
	name        topic.Partition
	id          topic.ID // zero: the request named the topic
	epoch       record.Epoch
	offset      record.Offset
	lastFetched record.Epoch
	logStart    record.Offset // of a follower
	max         int
	unknown     bool     // the request's topic ID is not known
	of          *tracked // of a follower's session; else nil
}

// result is what became of one partition.
type result struct {
	want      wanted
	code      int16
	part      *replica.Partition
	got       replica.Fetched
	held      bool   // got.Slice is to be released
	old       []byte // the records in an old format, instead of the slice's
	blind     bool   // something was read that the old format does not show; want.offset is behind it
	diverged  bool
	endEpoch  record.Epoch // where the log parts from the client's, if diverged
	endOffset record.Offset
	nearer    bool // nothing was read: the client had better ask preferred
	preferred metadata.BrokerID
}

// fetchCall is one request on its way.
type fetchCall struct {
	api     *API
	r       *wire.Request
	req     *kmsg.FetchRequest
	session *fetchSession // nil: none
	id      int32         // the session's ID, 0 for none
	full    bool          // every partition is in the answer, changed or not
	wants   []wanted
	results []result
	bytes   int
	urgent  bool               // something must be told now: an error, a divergence
	held    *replica.Partition // one of which a limit held something back; nil: none
	over    <-chan struct{}    // a later request of the session has come; nil: no session
	parked  bool               // it waits, in a goroutine of its own
}

// wait gives how long the client would wait.
func (f *fetchCall) wait() time.Duration {
	return time.Duration(f.req.MaxWaitMillis) * time.Millisecond
}

// enough tells whether to answer now.
func (f *fetchCall) enough() bool {
	if len(f.wants) == 0 && (!f.follows() || f.session.empty()) {
		return true
	}
	return f.urgent || f.bytes >= int(f.req.MinBytes)
}

// follows tells whether it is of a follower's session: wants are then what has moved.
func (f *fetchCall) follows() bool { return f.session != nil && f.session.agenda != nil }

// park waits until there is enough or no reason to wait on, and answers.
func (f *fetchCall) park() {
	f.parked = true
	wake, stop := f.watch()
	defer stop()
	timer := time.NewTimer(f.wait())
	defer timer.Stop()
	for {
		if f.follows() {
			f.more()
		}
		// Why first: what came between the first read and the watch woke nobody.
		if f.ready() {
			f.read()
			// Why any bytes will do: there are enough, and what was left out did not fit the limits.
			if f.enough() || f.bytes > 0 {
				f.send()
				return
			}
			f.rest()
		}
		var limit <-chan time.Time
		if f.held != nil {
			limit = time.After(max(time.Millisecond, f.held.LimitWait()))
		}
		select {
		case <-wake:
			continue
		case <-limit:
			continue
		case <-timer.C:
		case <-f.over:
			f.yield()
		case <-f.api.closing.Done():
		case <-f.r.Context().Done():
		}
		f.read()
		f.send()
		return
	}
}

// rest lets go of what was read and will not be sent now.
func (f *fetchCall) rest() {
	if f.follows() && !f.full {
		f.wants = f.session.rest(f.results, f)
	}
	f.release()
}

// yield leaves what a follower's request has in its hands to the one that came after it.
func (f *fetchCall) yield() {
	if f.follows() && !f.full {
		f.session.giveBack(f.inHands(), f)
		f.wants = nil
	}
}

// inHands gives the partitions of a follower's session that this request has.
func (f *fetchCall) inHands() []*tracked {
	ts := make([]*tracked, len(f.wants))
	for i := range f.wants {
		ts[i] = f.wants[i].of
	}
	return ts
}

// watch gives what is told whenever one of the partitions moved.
func (f *fetchCall) watch() (told <-chan struct{}, stop func()) {
	if f.follows() {
		return f.session.agenda.wake, func() {}
	}
	kick := make(chan struct{}, 1)
	wake := func() {
		select {
		case kick <- struct{}{}:
		default: // one is waiting already
		}
	}
	var stops []func()
	for i := range f.wants {
		if part, err := f.api.replicas.Partition(f.wants[i].name); err != nil {
			continue
		} else if replicaOf(f.req) >= 0 {
			stops = append(stops, part.WatchEnd(wake))
		} else {
			stops = append(stops, part.Watch(wake))
		}
	}
	return kick, func() {
		for _, s := range stops {
			s()
		}
	}
}

// ready tells, without reading, whether a read is worth trying.
func (f *fetchCall) ready() bool {
	committed := f.req.IsolationLevel == 1
	need := max(1, min(int(f.req.MinBytes), f.limit()))
	for i := range f.wants {
		w := &f.wants[i]
		part, err := f.api.replicas.Partition(w.name)
		if err == nil && replicaOf(f.req) >= 0 {
			if need -= part.FollowerReadable(metadata.BrokerID(replicaOf(f.req)), w.epoch, w.offset, min(w.max, need)); need <= 0 {
				return true
			}
			continue
		}
		if err != nil || part.Serves(w.epoch, anywhere(f.req)) != nil || w.offset < part.LogStart() {
			return true
		}
		if need -= part.Readable(w.offset, min(w.max, need), committed); need <= 0 {
			return true
		}
	}
	return false
}

// read reads every partition within the limits.
func (f *fetchCall) read() {
	if cap(f.results) < len(f.wants) {
		f.results = make([]result, 0, len(f.wants))
	}
	f.results, f.bytes, f.urgent, f.held = f.results[:0], 0, false, nil
	left := f.limit()
	for _, w := range f.wants {
		// Why for all before version 3: these clients do not turn the order of their
		// partitions, one large batch would starve behind others for ever.
		minOne := f.bytes == 0 || f.req.Version < 3 && left > 0
		res := f.api.readOne(w, min(w.max, max(0, left)), minOne, f.req)
		if res.code != 0 || res.diverged || res.nearer {
			f.urgent = true
		}
		if res.got.Held {
			f.held = res.part
		}
		n := res.size()
		f.bytes += n
		left -= n
		f.results = append(f.results, res)
	}
}

// limit gives the most bytes of records that the answer may have, its first batch apart.
func (f *fetchCall) limit() int {
	n := int(f.api.settings().Int("fetch.max.bytes"))
	if f.req.Version >= 3 {
		n = min(n, int(max(0, f.req.MaxBytes)))
	}
	if f.req.Version < 4 {
		n = min(n, maxDowngraded)
	}
	return n
}

// readOne reads one partition. Why perhaps again: of transaction markers alone old clients
// see nothing, and they would ask for them for ever.
func (a *API) readOne(w wanted, limit int, minOne bool, req *kmsg.FetchRequest) result {
	for {
		res := a.readOnce(w, limit, minOne, req)
		if !res.blind {
			return res
		}
		res.drop()
		w.offset = res.want.offset
	}
}

func (a *API) readOnce(w wanted, limit int, minOne bool, req *kmsg.FetchRequest) result {
	res := result{want: w, got: replica.Fetched{HighWatermark: -1, LastStable: -1, LogStart: -1}}
	if w.unknown {
		res.code = kerr.UnknownTopicID.Code
		return res
	}
	part, err := a.partition(w.name)
	if err == nil {
		res.part = part
		if w.of != nil {
			w.of.session.watch(w.of, part)
		}
		err = a.checkFetch(w, part, req)
	}
	if err == nil && replicaOf(req) >= 0 {
		return a.readFollower(res, limit, minOne, req)
	}
	if err == nil && w.lastFetched >= 0 {
		res.endEpoch, res.endOffset, res.diverged, err = diverging(part, w)
	}
	if err == nil && res.diverged {
		res.got.HighWatermark, res.got.LastStable, res.got.LogStart = part.HighWatermark(), part.LastStable(), part.LogStart()
		return res
	}
	if err == nil && a.nearer(&res, req) {
		return res
	}
	if err == nil {
		var got replica.Fetched
		read := part.Read
		if anywhere(req) {
			read = part.ReadNearby
		}
		got, err = read(w.offset, limit, minOne, req.IsolationLevel == 1)
		if err == nil || errors.Is(err, storage.ErrOffsetOutOfRange) {
			res.got = got
		}
		res.held = err == nil
		if err == nil && zstdRefused(part, req.Version, got.Slice) {
			err = record.ErrCodec
		}
		if err == nil && req.Version < 4 && got.Slice.Len() > 0 {
			var next record.Offset
			next, err = res.downgrade(req.Version)
			res.blind = err == nil && len(res.old) == 0
			res.want.offset = next
		}
	}
	if err != nil {
		res.drop()
		res.code, _ = a.answer("Fetch", err)
	}
	return res
}

func (a *API) checkFetch(w wanted, part *replica.Partition, req *kmsg.FetchRequest) error {
	if !w.id.IsZero() && w.id != part.TopicID() {
		return refuse(kerr.InconsistentTopicID, "the topic was made again under another ID")
	}
	if replicaOf(req) >= 0 {
		return nil // ReadFollower looks
	}
	return part.Serves(w.epoch, anywhere(req))
}

// anywhere tells whether the client knows that followers answer too (KIP-392).
func anywhere(req *kmsg.FetchRequest) bool { return req.Version >= 11 && replicaOf(req) < 0 }

// rackAware is the replica.selector.class that looks for a replica in the client's rack.
const rackAware = "org.apache.kafka.common.replica.RackAwareReplicaSelector"

// nearer looks for a replica in the client's rack (KIP-392).
func (a *API) nearer(res *result, req *kmsg.FetchRequest) bool {
	if req.Rack == "" || !anywhere(req) || a.settings().String("replica.selector.class") != rackAware {
		return false
	}
	res.preferred = res.part.Preferred(req.Rack, res.want.offset)
	res.nearer = res.preferred != metadata.NoBroker
	if res.nearer {
		res.got.HighWatermark, res.got.LastStable, res.got.LogStart = res.part.HighWatermark(), res.part.LastStable(), res.part.LogStart()
	}
	return res.nearer
}

// readFollower reads one partition for a follower.
func (a *API) readFollower(res result, limit int, minOne bool, req *kmsg.FetchRequest) result {
	w := res.want
	epoch := int64(-1)
	if req.Version >= 15 {
		epoch = req.ReplicaState.Epoch
	}
	got, err := res.part.ReadFollower(replica.FollowerFetch{
		Broker: metadata.BrokerID(replicaOf(req)), BrokerEpoch: epoch, LeaderEpoch: w.epoch,
		Offset: w.offset, LastFetched: w.lastFetched, LogStart: w.logStart, Max: limit, MinOne: minOne,
	})
	if err == nil || errors.Is(err, storage.ErrOffsetOutOfRange) {
		res.got = got
	}
	if err != nil {
		res.code, _ = a.answer("Fetch", err)
		return res
	}
	res.held = true
	res.diverged, res.endEpoch, res.endOffset = got.Diverged, got.EndEpoch, got.EndOffset
	return res
}

// replicaOf gives the broker that fetches; negative for clients.
func replicaOf(req *kmsg.FetchRequest) int32 {
	if req.Version >= 15 {
		return req.ReplicaState.ID
	}
	return req.ReplicaID
}

// diverging tells where the log parts from what the client read last (rule R2, KIP-595).
func diverging(part *replica.Partition, w wanted) (record.Epoch, record.Offset, bool, error) {
	epoch, end := part.Log().EndOf(w.lastFetched)
	if epoch < 0 {
		return -1, -1, false, storage.ErrOffsetOutOfRange
	}
	return epoch, end, epoch < w.lastFetched || end < w.offset, nil
}

// zstdRefused tells whether a client may not have what it read because of zstd (KIP-110): before Fetch 10 nothing of a
// topic that stores everything with zstd, and before Fetch 4 no such batch, as message format 1 has no number for it.
// Why not every zstd batch before Fetch 10: a client that stayed at an older version may know zstd all the same –
// rskafka does – and Kafka hands them out.
func zstdRefused(part *replica.Partition, version int16, read storage.Slice) bool {
	return version < 10 && part.Settings().String("compression.type") == "zstd" || version < 4 && hasZstd(read)
}

// hasZstd tells whether a batch is compressed with zstd.
func hasZstd(s storage.Slice) bool {
	var head [record.HeaderSize]byte
	for at := 0; at+record.HeaderSize <= s.Len(); {
		if _, err := s.ReadAt(head[:], int64(at)); err != nil {
			return false
		}
		h, err := record.ReadHeader(head[:])
		if err != nil {
			return false
		}
		if h.Codec() == record.Zstd {
			return true
		}
		at += h.Size()
	}
	return false
}

// size gives the bytes of records that go out.
func (res *result) size() int {
	if res.old != nil {
		return len(res.old)
	}
	return res.got.Slice.Len()
}

// drop gives the slice back.
func (res *result) drop() {
	if res.held {
		if res.part != nil {
			res.part.Unsent(&res.got)
		}
		res.got.Slice.Release()
		res.held, res.got.Slice = false, storage.Slice{}
	}
}

// release gives back what was read and will not be sent.
func (f *fetchCall) release() {
	for i := range f.results {
		f.results[i].drop()
	}
	clear(f.results)
	f.results = f.results[:0]
}

// send answers with what was read.
func (f *fetchCall) send() {
	if context.Cause(f.r.Context()) != nil {
		f.release()
		if f.follows() {
			f.session.giveBack(f.inHands(), f)
		}
		f.r.AnswerNothing()
		return
	}
	shown := f.results
	switch {
	case f.follows():
		shown = f.session.settleAll(f.results, f.full, f)
	case f.session != nil:
		shown = f.session.settle(f.results, f.full)
	}
	var code first
	w := fetchWriter{version: f.req.Version, api: f.api, r: f.r}
	for i := range shown {
		res := &shown[i]
		code.see(res.code)
		if res.part != nil && replicaOf(f.req) < 0 {
			counts := res.part.Stats()
			counts.FetchRequests.Add(1)
			counts.BytesOut.Add(res.size())
			if res.code != 0 {
				counts.FailedFetch.Add(1)
			}
		} else if res.part != nil {
			res.part.Replicated(&res.got, res.size())
		}
	}
	answer := wire.Pieces(w.body(f.id, shown), int16(code))
	if f.parked {
		f.r.AnswerHere(answer) // the goroutine has nothing else to do
		return
	}
	f.r.Answer(answer)
}
