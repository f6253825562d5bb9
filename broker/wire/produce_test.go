package wire

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestDecodeProduce compares what is decoded by hand, into a request that was used before, with what kmsg decodes.
func TestDecodeProduce(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var got kmsg.ProduceRequest
	session := &Session{}
	for n := range 2000 {
		version := int16(n % 14)
		want := randomProduce(r, version)
		body := want.AppendTo(nil)
		if err := decodeProduce(&got, session, body, version, version >= 9); err != nil {
			t.Fatalf("version %d: %v\n%x", version, err, body)
		}
		if again := got.AppendTo(nil); !bytes.Equal(again, body) {
			t.Fatalf("version %d: decoded and encoded again it is\n%x, want\n%x", version, again, body)
		}
		var kept kmsg.ProduceRequest
		kept.Version = version
		if err := kept.ReadFrom(body); err != nil {
			t.Fatal(err)
		}
		if (kept.TransactionID == nil) != (got.TransactionID == nil) {
			t.Fatalf("version %d: transactional.id is null: %v, want %v", version, got.TransactionID == nil, kept.TransactionID == nil)
		}
	}
}

// TestDecodeProduceCutShort: no beginning of a request is decoded, and none makes it panic.
func TestDecodeProduceCutShort(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for version := range int16(14) {
		want := randomProduce(r, version)
		body := want.AppendTo(nil)
		for n := range body {
			var got kmsg.ProduceRequest
			if err := decodeProduce(&got, &Session{}, body[:n], version, version >= 9); err == nil {
				t.Fatalf("version %d: %d of %d bytes are decoded", version, n, len(body))
			}
		}
	}
}

func TestDecodeProduceSkipsUnknownTags(t *testing.T) {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks = 9, -1
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic = "t"
	part := kmsg.NewProduceRequestTopicPartition()
	part.Records = []byte("records")
	part.UnknownTags.Set(5, []byte("five"))
	topic.Partitions = append(topic.Partitions, part)
	topic.UnknownTags.Set(1, []byte("one"))
	req.Topics = append(req.Topics, topic)
	req.UnknownTags.Set(0, nil)
	var got kmsg.ProduceRequest
	if err := decodeProduce(&got, &Session{}, req.AppendTo(nil), 9, true); err != nil {
		t.Fatal(err)
	}
	if got.Topics[0].Topic != "t" || string(got.Topics[0].Partitions[0].Records) != "records" || got.Acks != -1 {
		t.Errorf("decoded %+v", got)
	}
}

func randomProduce(r *rand.Rand, version int16) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = version, int16(r.IntN(3)-1), r.Int32()
	if version >= 3 && r.IntN(2) == 0 {
		id := "transaction"[:r.IntN(12)]
		req.TransactionID = &id
	}
	for range r.IntN(4) {
		t := kmsg.NewProduceRequestTopic()
		if version >= 13 {
			for i := range t.TopicID {
				t.TopicID[i] = byte(r.Uint32())
			}
		} else {
			t.Topic = string(bytes.Repeat([]byte{byte('a' + r.IntN(26))}, r.IntN(200)))
		}
		for range r.IntN(4) {
			p := kmsg.NewProduceRequestTopicPartition()
			p.Partition = r.Int32()
			if r.IntN(4) > 0 {
				p.Records = bytes.Repeat([]byte{7}, r.IntN(300))
			}
			t.Partitions = append(t.Partitions, p)
		}
		req.Topics = append(req.Topics, t)
	}
	return req
}
