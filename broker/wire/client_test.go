package wire_test

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/wire"
)

// oneTopic is just enough of a broker for a real client: one topic, one partition, in memory.
type oneTopic struct {
	t    *testing.T
	addr string
	mu   sync.Mutex
	log  []byte
	next record.Offset
	seen map[record.Codec]int
	keys map[int16]int16 // highest version
}

func (o *oneTopic) Serve(r *wire.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.keys[r.Key] = max(o.keys[r.Key], r.Version)
	switch req := r.Body.(type) {
	case *kmsg.ApiVersionsRequest:
		resp := kmsg.NewPtrApiVersionsResponse()
		for key := range int16(76) {
			if first, last, ok := served(nil, key); ok {
				k := kmsg.NewApiVersionsResponseApiKey()
				k.ApiKey, k.MinVersion, k.MaxVersion = key, first, last
				resp.ApiKeys = append(resp.ApiKeys, k)
			}
		}
		if r.Unsupported {
			resp.ErrorCode = 35
		}
		r.Answer(wire.Message(resp, resp.ErrorCode))
	case *kmsg.MetadataRequest:
		r.Answer(wire.Message(o.metadata(), 0))
	case *kmsg.InitProducerIDRequest:
		resp := kmsg.NewPtrInitProducerIDResponse()
		resp.ProducerID, resp.ProducerEpoch = 5, 0
		r.Answer(wire.Message(resp, 0))
	case *kmsg.ProduceRequest:
		o.produce(r, req)
	case *kmsg.ListOffsetsRequest:
		resp := kmsg.NewPtrListOffsetsResponse()
		t := kmsg.NewListOffsetsResponseTopic()
		t.Topic = "one"
		p := kmsg.NewListOffsetsResponseTopicPartition()
		p.Offset, p.OldStyleOffsets = 0, []int64{0}
		t.Partitions = append(t.Partitions, p)
		resp.Topics = append(resp.Topics, t)
		r.Answer(wire.Message(resp, 0))
	case *kmsg.FetchRequest:
		o.fetch(r, req)
	default:
		o.t.Errorf("unexpected request %T", req)
		r.Drop(nil)
	}
}

func served(_ *wire.Session, key int16) (int16, int16, bool) {
	last, ok := map[int16]int16{0: 9, 1: 12, 2: 6, 3: 9, 10: 2, 18: 3, 22: 4}[key]
	return 0, last, ok
}

func (o *oneTopic) metadata() *kmsg.MetadataResponse {
	host, port, err := net.SplitHostPort(o.addr)
	if err != nil {
		o.t.Error(err)
	}
	n, _ := strconv.Atoi(port)
	resp := kmsg.NewPtrMetadataResponse()
	b := kmsg.NewMetadataResponseBroker()
	b.Host, b.Port = host, int32(n)
	resp.Brokers = append(resp.Brokers, b)
	t := kmsg.NewMetadataResponseTopic()
	t.Topic = kmsg.StringPtr("one")
	p := kmsg.NewMetadataResponseTopicPartition()
	p.Replicas, p.ISR = []int32{0}, []int32{0}
	t.Partitions = append(t.Partitions, p)
	resp.Topics = append(resp.Topics, t)
	return resp
}

func (o *oneTopic) produce(r *wire.Request, req *kmsg.ProduceRequest) {
	b := req.Topics[0].Partitions[0].Records
	var err error
	if record.Legacy(b) {
		if b, err = record.Convert(b, record.Limits{}); err != nil {
			o.t.Errorf("Convert: %v", err)
		}
	}
	info, err := record.Check(b, record.Limits{Now: time.Now().UnixMilli(), MaxAfter: 3_600_000})
	if err != nil {
		o.t.Errorf("Check: %v", err)
	}
	o.seen[info.First.Codec()] += info.Records
	record.SetBase(b, o.next, 0)
	resp := kmsg.NewPtrProduceResponse()
	t := kmsg.NewProduceResponseTopic()
	t.Topic = req.Topics[0].Topic
	p := kmsg.NewProduceResponseTopicPartition()
	p.BaseOffset = int64(o.next)
	t.Partitions = append(t.Partitions, p)
	resp.Topics = append(resp.Topics, t)
	o.next += record.Offset(info.Records)
	o.log = append(o.log, b...)
	r.Answer(wire.Message(resp, 0))
}

func (o *oneTopic) fetch(r *wire.Request, req *kmsg.FetchRequest) {
	resp := kmsg.NewPtrFetchResponse()
	for _, rt := range req.Topics {
		t := kmsg.NewFetchResponseTopic()
		t.Topic = rt.Topic
		p := kmsg.NewFetchResponseTopicPartition()
		p.HighWatermark, p.LastStableOffset = int64(o.next), int64(o.next)
		p.RecordBatches = []byte{}
		for b := o.log; len(b) > 0; {
			h, err := record.ReadHeader(b)
			if err != nil {
				o.t.Error(err)
				break
			}
			if h.Last() >= record.Offset(rt.Partitions[0].FetchOffset) {
				p.RecordBatches = append(p.RecordBatches, o.old(b[:h.Size()], r.Version)...)
			}
			b = b[h.Size():]
		}
		t.Partitions = append(t.Partitions, p)
		resp.Topics = append(resp.Topics, t)
	}
	if len(resp.Topics) > 0 && len(resp.Topics[0].Partitions[0].RecordBatches) == 0 {
		time.AfterFunc(20*time.Millisecond, func() { r.Answer(wire.Message(resp, 0)) })
		return
	}
	r.Answer(wire.Message(resp, 0))
}

// old gives the batch in the format of the fetch version.
func (o *oneTopic) old(batch []byte, version int16) []byte {
	if version >= 4 {
		return batch
	}
	b, err := record.Downgrade(nil, batch, int8(min(1, version/2)))
	if err != nil {
		o.t.Error(err)
	}
	return b
}

// TestRealClient produces with every codec and reads back what it wrote and what Builder wrote, as a client of now
// and as clients that know only old messages.
func TestRealClient(t *testing.T) {
	for _, c := range []struct {
		name           string
		versions       *kversion.Versions
		produce, fetch int16 // what the client then speaks
		codecs         []record.Codec
	}{
		{"now", kversion.Stable(), 9, 12, []record.Codec{record.None, record.Gzip, record.Snappy, record.LZ4, record.Zstd}},
		{"0.10.0", kversion.V0_10_0(), 2, 2, []record.Codec{record.None, record.Gzip, record.Snappy, record.LZ4}},
		// Why without LZ4: in magic 0 Kafka's clients expect a wrong header checksum, this one the right one.
		{"0.9.0", kversion.V0_9_0(), 1, 1, []record.Codec{record.None, record.Gzip, record.Snappy}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			o := &oneTopic{t: t, addr: l.Addr().String(), seen: make(map[record.Codec]int), keys: make(map[int16]int16)}
			s, err := wire.New(wire.Options{Listeners: []wire.Listener{{Name: "PLAINTEXT", Net: l}}, Handler: o, Versions: served})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			done := make(chan error, 1)
			go func() { done <- s.Run(ctx) }()
			defer func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}()
			converse(t, ctx, o, c.versions, c.codecs)
			o.mu.Lock()
			defer o.mu.Unlock()
			if o.keys[0] != c.produce || o.keys[1] != c.fetch {
				t.Errorf("spoke Produce %d and Fetch %d", o.keys[0], o.keys[1])
			}
		})
	}
}

func converse(t *testing.T, ctx context.Context, o *oneTopic, versions *kversion.Versions, codecs []record.Codec) {
	theirs := []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}
	want := make(map[string]bool)
	for _, c := range codecs {
		codec := theirs[c]
		cl, err := kgo.NewClient(kgo.SeedBrokers(o.addr), kgo.MaxVersions(versions), kgo.ProducerBatchCompression(codec), kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.LeaderAck()), kgo.DefaultProduceTopic("one"), kgo.ProducerLinger(20*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		var recs []*kgo.Record
		for i := range 50 {
			v := fmt.Sprintf("%s %d %s", c, i, strings.Repeat("x", 100*i))
			want[v] = true
			recs = append(recs, kgo.StringRecord(v))
		}
		if err := cl.ProduceSync(ctx, recs...).FirstErr(); err != nil {
			t.Fatalf("%s: %v", c, err)
		}
		cl.Close()
		o.mu.Lock()
		if o.seen[c] != 50 {
			t.Errorf("%s: %v", c, o.seen)
		}
		b := record.NewBuilder(c)
		b.Header.Base = o.next
		for i := range 50 {
			v := fmt.Sprintf("built %s %d %s", c, i, strings.Repeat("y", 3000*i))
			want[v] = true
			b.Add(record.Record{Timestamp: time.Now().UnixMilli(), Value: []byte(v)})
		}
		batch, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		o.log, o.next = append(o.log, batch...), o.next+50
		o.mu.Unlock()
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(o.addr), kgo.MaxVersions(versions), kgo.ConsumeTopics("one"), kgo.FetchMaxWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	at := int64(0)
	for len(want) > 0 && ctx.Err() == nil {
		fs := cl.PollFetches(ctx)
		for _, e := range fs.Errors() {
			t.Fatal(e.Err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			if !want[string(r.Value)] || r.Offset != at {
				t.Errorf("record %.40q at offset %d, want offset %d", r.Value, r.Offset, at)
			}
			delete(want, string(r.Value))
			at++
		})
	}
	if len(want) > 0 {
		t.Errorf("%d records are missing", len(want))
	}
}
