package api

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/replica"
	"github.com/belfry-mq/belfry/broker/topic"
)

// bytesOf puts the pieces of a response together.
func bytesOf(w *fetchWriter, session int32, results []result) []byte {
	var out []byte
	for _, p := range w.body(session, results) {
		out = append(out, p.Bytes...)
	}
	return out
}

func sampleResults() []result {
	id1, id2 := topic.ID{1}, topic.ID{2}
	at := func(name string, id topic.ID, p int32) wanted {
		return wanted{name: topic.Partition{Topic: name, Partition: p}, id: id}
	}
	return []result{
		{want: at("a", id1, 0), got: replica.Fetched{HighWatermark: 10, LastStable: 9, LogStart: 2}, old: []byte("records")},
		{want: at("b", id2, 7), got: replica.Fetched{HighWatermark: -1, LastStable: -1, LogStart: -1}, code: kerr.NotLeaderForPartition.Code},
		{want: at("a", id1, 3), got: replica.Fetched{HighWatermark: 5, LastStable: 5, LogStart: 0}, diverged: true, endEpoch: 4, endOffset: 3},
	}
}

// A response written by hand must read as the protocol's own codec reads it, in
// every version.
func TestFetchResponseReadsBack(t *testing.T) {
	for v := int16(0); v <= 17; v++ {
		w := fetchWriter{version: v}
		results := sampleResults()
		if v < 13 {
			for i := range results {
				results[i].want.id = topic.ID{}
			}
		}
		resp := kmsg.NewPtrFetchResponse()
		resp.Version = v
		b := bytesOf(&w, 77, results)
		if err := resp.ReadFrom(b); err != nil {
			t.Fatalf("version %d: cannot read response: %v", v, err)
		}
		if again := resp.AppendTo(nil); string(again) != string(b) {
			t.Errorf("version %d: codec writes\n%x, we wrote\n%x", v, again, b)
		}
		if v >= 7 && resp.SessionID != 77 {
			t.Errorf("version %d: session %d, want 77", v, resp.SessionID)
		}
		if len(resp.Topics) != 2 || len(resp.Topics[0].Partitions) != 2 {
			t.Fatalf("version %d: topics %+v, want a with two partitions and b", v, resp.Topics)
		}
		p := resp.Topics[0].Partitions[0]
		if p.HighWatermark != 10 || string(p.RecordBatches) != "records" || v >= 4 && p.LastStableOffset != 9 || v >= 5 && p.LogStartOffset != 2 {
			t.Errorf("version %d: first partition %+v", v, p)
		}
		if q := resp.Topics[0].Partitions[1]; q.RecordBatches == nil || len(q.RecordBatches) != 0 {
			t.Errorf("version %d: records of an empty partition are %v, want empty and not null", v, q.RecordBatches)
		}
		if q := resp.Topics[0].Partitions[1]; v >= 12 && (q.DivergingEpoch.Epoch != 4 || q.DivergingEpoch.EndOffset != 3) {
			t.Errorf("version %d: diverging epoch %+v, want 4 ending at 3", v, q.DivergingEpoch)
		}
		if code := resp.Topics[1].Partitions[0].ErrorCode; code != kerr.NotLeaderForPartition.Code {
			t.Errorf("version %d: code %d of second topic", v, code)
		}
	}
}

func TestFetchErrorReadsBack(t *testing.T) {
	for v := int16(7); v <= 17; v++ {
		w := fetchWriter{version: v}
		w.head(0, kerr.FetchSessionIDNotFound.Code)
		w.arrayLen(0)
		w.tags()
		resp := kmsg.NewPtrFetchResponse()
		resp.Version = v
		if err := resp.ReadFrom(w.b); err != nil {
			t.Fatalf("version %d: cannot read response: %v", v, err)
		}
		if resp.ErrorCode != kerr.FetchSessionIDNotFound.Code || len(resp.Topics) != 0 {
			t.Errorf("version %d: got %+v", v, resp)
		}
	}
}
