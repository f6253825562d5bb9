package api_test

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/belfry-mq/belfry/broker/brokertest"
	"github.com/belfry-mq/belfry/broker/record"
)

// fetchOf asks for one partition of each topic from an offset on.
func fetchOf(version int16, wait time.Duration, minBytes int32, offset int64, topics ...string) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxWaitMillis, req.MinBytes, req.MaxBytes = version, int32(wait.Milliseconds()), minBytes, 1<<20
	for _, name := range topics {
		topic := kmsg.NewFetchRequestTopic()
		topic.Topic = name
		p := kmsg.NewFetchRequestTopicPartition()
		p.FetchOffset, p.PartitionMaxBytes = offset, 1<<20
		topic.Partitions = append(topic.Partitions, p)
		req.Topics = append(req.Topics, topic)
	}
	return req
}

func TestFetchWakesAtOnce(t *testing.T) {
	node := brokertest.Start(t)
	reader, writer := dialRaw(t, node.Addr()), dialRaw(t, node.Addr())
	makeTopic(writer, "poll", nil)
	for i := range int64(5) {
		req := fetchOf(11, 15*time.Second, 1, i, "poll")
		reader.send(req)
		code(t, try(writer, "poll", batchOf("x", 1000)).ErrorCode, nil)
		sent := time.Now()
		_, body, err := reader.frame()
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(sent); took > 5*time.Second {
			t.Errorf("the waiting fetch is answered after %v", took)
		}
		if got := valuesOf(t, reader.decode(req, body).(*kmsg.FetchResponse).Topics[0].Partitions[0].RecordBatches); len(got) != 1 {
			t.Errorf("round %d: %d records, want the new one", i, len(got))
		}
	}
}

func TestFetchWaitsForMinBytes(t *testing.T) {
	node := brokertest.Start(t)
	reader, writer := dialRaw(t, node.Addr()), dialRaw(t, node.Addr())
	makeTopic(writer, "slow", nil)
	size := int32(len(batchOf("x", 1000)))
	req := fetchOf(11, 15*time.Second, 3*size, 0, "slow")
	reader.send(req)
	for range 3 {
		code(t, try(writer, "slow", batchOf("x", 1000)).ErrorCode, nil)
	}
	_, body, err := reader.frame()
	if err != nil {
		t.Fatal(err)
	}
	if got := valuesOf(t, reader.decode(req, body).(*kmsg.FetchResponse).Topics[0].Partitions[0].RecordBatches); len(got) != 3 {
		t.Errorf("%d records, want the three that were waited for", len(got))
	}
	begin := time.Now()
	resp := reader.ask(fetchOf(11, 200*time.Millisecond, 1<<20, 0, "slow")).(*kmsg.FetchResponse)
	if took := time.Since(begin); took < 150*time.Millisecond {
		t.Errorf("answered after %v although there is too little", took)
	}
	if got := valuesOf(t, resp.Topics[0].Partitions[0].RecordBatches); len(got) != 3 {
		t.Errorf("%d records when the time is over, want what there is", len(got))
	}
}

// A fetch that waits must not keep the broker from stopping, nor hold anything when
// its connection goes.
func TestWaitingFetchEnds(t *testing.T) {
	node := brokertest.Start(t)
	c, gone := dialRaw(t, node.Addr()), dialRaw(t, node.Addr())
	makeTopic(c, "quiet", nil)
	gone.send(fetchOf(11, time.Hour, 1, 0, "quiet"))
	gone.conn.Close()
	c.send(fetchOf(11, time.Hour, 1, 0, "quiet"))
	begin := time.Now()
	node.Stop()
	if took := time.Since(begin); took > 4*time.Second {
		t.Errorf("the stop took %v", took)
	}
}

// KIP-74: one batch comes even if it is larger than every limit.
func TestFetchAtLeastOneBatch(t *testing.T) {
	node := brokertest.Start(t)
	c := dialRaw(t, node.Addr())
	for _, topic := range []string{"first", "second"} {
		makeTopic(c, topic, nil)
		for range 2 {
			code(t, try(c, topic, batchOf(strings.Repeat("x", 5000), 1000)).ErrorCode, nil)
		}
	}
	req := fetchOf(11, 0, 1, 0, "first", "second")
	req.MaxBytes = 100
	req.Topics[0].Partitions[0].PartitionMaxBytes = 100
	resp := c.ask(req).(*kmsg.FetchResponse)
	if got := valuesOf(t, resp.Topics[0].Partitions[0].RecordBatches); len(got) != 1 {
		t.Errorf("%d records of the first topic, want one", len(got))
	}
	if p := resp.Topics[1].Partitions[0]; len(p.RecordBatches) != 0 || p.ErrorCode != 0 || p.HighWatermark != 2 {
		t.Errorf("second topic %+v, want nothing more and no error", p)
	}
}

func TestFetchSession(t *testing.T) {
	node := brokertest.Start(t)
	c := dialRaw(t, node.Addr())
	makeTopic(c, "a", nil)
	makeTopic(c, "b", nil)
	ask := func(id, epoch int32, req *kmsg.FetchRequest) *kmsg.FetchResponse {
		t.Helper()
		req.SessionID, req.SessionEpoch = id, epoch
		return c.ask(req).(*kmsg.FetchResponse)
	}
	full := ask(0, 0, fetchOf(11, 0, 1, 0, "a", "b"))
	if full.SessionID == 0 || len(full.Topics) != 2 {
		t.Fatalf("session %d with %d topics, want a session with both", full.SessionID, len(full.Topics))
	}
	id := full.SessionID
	if resp := ask(id, 1, fetchOf(11, 10*time.Millisecond, 1, 0)); resp.ErrorCode != 0 || len(resp.Topics) != 0 || resp.SessionID != id {
		t.Errorf("nothing is new and the answer is %+v", resp)
	}
	code(t, try(c, "b", batchOf("x", 1000)).ErrorCode, nil)
	resp := ask(id, 2, fetchOf(11, time.Second, 1, 0))
	if len(resp.Topics) != 1 || resp.Topics[0].Topic != "b" || len(valuesOf(t, resp.Topics[0].Partitions[0].RecordBatches)) != 1 {
		t.Errorf("answer %+v, want the record of b alone", resp.Topics)
	}
	code(t, ask(id, 2, fetchOf(11, 0, 1, 0)).ErrorCode, kerr.InvalidFetchSessionEpoch)
	forget := fetchOf(11, 0, 1, 1, "b")
	f := kmsg.NewFetchRequestForgottenTopic()
	f.Topic, f.Partitions = "a", []int32{0}
	forget.ForgottenTopics = append(forget.ForgottenTopics, f)
	if resp = ask(id, 3, forget); resp.ErrorCode != 0 {
		t.Errorf("cannot change session: %v", kerr.ErrorForCode(resp.ErrorCode))
	}
	code(t, try(c, "a", batchOf("x", 1000)).ErrorCode, nil)
	if resp = ask(id, 4, fetchOf(11, 10*time.Millisecond, 1, 0)); len(resp.Topics) != 0 {
		t.Errorf("answer %+v about a forgotten partition", resp.Topics)
	}
	if resp = ask(id, -1, fetchOf(11, 0, 1, 0, "a")); resp.SessionID != 0 || len(resp.Topics) != 1 {
		t.Errorf("closing answer %+v, want a full one without session", resp)
	}
	code(t, ask(id, 5, fetchOf(11, 0, 1, 0)).ErrorCode, kerr.FetchSessionIDNotFound)
}

func TestFetchErrors(t *testing.T) {
	node := brokertest.Start(t)
	c := dialRaw(t, node.Addr())
	makeTopic(c, "e", nil)
	partition := func(req *kmsg.FetchRequest) kmsg.FetchResponseTopicPartition {
		return c.ask(req).(*kmsg.FetchResponse).Topics[0].Partitions[0]
	}
	code(t, partition(fetchOf(11, time.Hour, 1, 0, "nowhere")).ErrorCode, kerr.UnknownTopicOrPartition)
	past := partition(fetchOf(11, time.Hour, 1, 9, "e"))
	code(t, past.ErrorCode, kerr.OffsetOutOfRange)
	if past.HighWatermark != 0 || past.LogStartOffset != 0 {
		t.Errorf("out of range without the marks: %+v", past)
	}
	epoch := fetchOf(11, time.Hour, 1, 0, "e")
	epoch.Topics[0].Partitions[0].CurrentLeaderEpoch = 1 << 20
	code(t, partition(epoch).ErrorCode, kerr.UnknownLeaderEpoch)
	replica := fetchOf(11, time.Hour, 1, 0, "e")
	replica.ReplicaID = 5
	code(t, partition(replica).ErrorCode, kerr.ReplicaNotAvailable)
	id := fetchOf(13, time.Hour, 1, 0, "")
	id.Topics[0].TopicID = [16]byte{1}
	code(t, partition(id).ErrorCode, kerr.UnknownTopicID)
	code(t, try(c, "e", batchOf("x", 1000)).ErrorCode, nil)
	node.Restart(nil, nil) // begins a new epoch
	c = dialRaw(t, node.Addr())
	code(t, try(c, "e", batchOf("y", 1000)).ErrorCode, nil)
	diverging := fetchOf(12, time.Hour, 1, 2, "e")
	diverging.Topics[0].Partitions[0].LastFetchedEpoch = 0
	if p := partition(diverging); p.ErrorCode != 0 || p.DivergingEpoch.Epoch != 0 || p.DivergingEpoch.EndOffset != 1 {
		t.Errorf("read beyond the end of epoch 0: %+v, want to be told that it ends at 1", p)
	}
}

// What is not served closes the connection; only ApiVersions is answered (KIP-511).
func TestUnknownVersions(t *testing.T) {
	node := brokertest.Start(t)
	c := dialRaw(t, node.Addr())
	versions := kmsg.NewPtrApiVersionsRequest()
	versions.Version, versions.ClientSoftwareName, versions.ClientSoftwareVersion = 5, "raw", "1"
	c.send(versions)
	_, body, err := c.frame()
	if err != nil {
		t.Fatal(err)
	}
	resp := c.decode(kmsg.NewPtrApiVersionsRequest(), body).(*kmsg.ApiVersionsResponse)
	code(t, resp.ErrorCode, kerr.UnsupportedVersion)
	if len(resp.ApiKeys) != 1 || resp.ApiKeys[0].ApiKey != 18 || resp.ApiKeys[0].MaxVersion != 4 {
		t.Errorf("keys %+v, want the range of ApiVersions", resp.ApiKeys)
	}
	old := kmsg.NewPtrMetadataRequest()
	old.Version = 14
	c.send(old)
	c.closed()
	c = dialRaw(t, node.Addr())
	c.send(kmsg.NewPtrCreateDelegationTokenRequest())
	c.closed()
}

// An instance of an old release offers what that release offered, by the table that
// clients use to guess releases, and nothing above it.
func TestInstanceVersion(t *testing.T) {
	for _, version := range []string{"1.1.0", "2.3.0", "2.7"} {
		t.Run(version, func(t *testing.T) {
			node := brokertest.Start(t, brokertest.Set(map[string]string{"version": version}))
			release := kversion.FromString(version)
			offered := map[int16]int16{}
			for _, k := range dialRaw(t, node.Addr()).ask(kmsg.NewPtrApiVersionsRequest()).(*kmsg.ApiVersionsResponse).ApiKeys {
				offered[k.ApiKey] = k.MaxVersion
				if want, ok := release.LookupMaxKeyVersion(k.ApiKey); !ok || k.MaxVersion != want {
					t.Errorf("%s is offered up to %d, the release had %d", kmsg.NameForKey(k.ApiKey), k.MaxVersion, want)
				}
			}
			for key := range questions() {
				if _, ok := release.LookupMaxKeyVersion(key.Int16()); ok {
					if _, there := offered[key.Int16()]; !there {
						t.Errorf("%s is not offered, the release had it", key.Name())
					}
				}
				above := kmsg.RequestForKey(key.Int16())
				max, ok := offered[key.Int16()]
				if ok {
					max++
				}
				if above.SetVersion(max); max > above.MaxVersion() || key == kmsg.ApiVersions {
					continue
				}
				c := dialRaw(t, node.Addr())
				c.send(above)
				c.closed()
			}
			asked := kmsg.NewPtrApiVersionsRequest()
			asked.Version, asked.ClientSoftwareName, asked.ClientSoftwareVersion = offered[18]+1, "raw", "1"
			c := dialRaw(t, node.Addr())
			c.send(asked)
			_, body, err := c.frame()
			if err != nil {
				t.Fatal(err)
			}
			resp := c.decode(kmsg.NewPtrApiVersionsRequest(), body).(*kmsg.ApiVersionsResponse)
			code(t, resp.ErrorCode, kerr.UnsupportedVersion)
			// Releases before KIP-511 (2.4) refused without a word: franz-go 1.15 takes one key for all that there are.
			told := offered[18] >= 3
			if told && (len(resp.ApiKeys) != 1 || resp.ApiKeys[0].MaxVersion != offered[18]) || !told && len(resp.ApiKeys) > 0 {
				t.Errorf("keys %+v, want the range of ApiVersions, up to %d: %v", resp.ApiKeys, offered[18], told)
			}
		})
	}
}

// A client that wants more at least than it takes at most must not wait in vain.
func TestFetchMinAboveMax(t *testing.T) {
	node := brokertest.Start(t)
	c := dialRaw(t, node.Addr())
	makeTopic(c, "much", nil)
	size := int32(len(batchOf("x", 1000)))
	for range 5 {
		code(t, try(c, "much", batchOf("x", 1000)).ErrorCode, nil)
	}
	req := fetchOf(11, 15*time.Second, 4*size, 0, "much")
	req.MaxBytes = 3*size + 10
	begin := time.Now()
	resp := c.ask(req).(*kmsg.FetchResponse)
	if took := time.Since(begin); took > 8*time.Second {
		t.Errorf("answered after %v although no more can come", took)
	}
	if got := valuesOf(t, resp.Topics[0].Partitions[0].RecordBatches); len(got) != 3 {
		t.Errorf("%d records, want the three that fit", len(got))
	}
}

// Which clients may have zstd (KIP-110): one that knows it, or that Kafka takes to know it.
func TestFetchZstdByVersion(t *testing.T) {
	c := dialRaw(t, brokertest.Start(t).Addr())
	makeTopic(c, "mixed", nil)
	makeTopic(c, "squeezed", map[string]string{"compression.type": "zstd"})
	for _, name := range []string{"mixed", "squeezed"} {
		code(t, try(c, name, batch(t, record.Zstd, nil, nil, "x")).ErrorCode, nil)
	}
	for _, tt := range []struct {
		topic   string
		version int16
		want    *kerr.Error
	}{
		{"mixed", 3, kerr.UnsupportedCompressionType},
		{"mixed", 4, nil},
		{"mixed", 9, nil},
		{"squeezed", 9, kerr.UnsupportedCompressionType},
		{"squeezed", 10, nil},
	} {
		p := c.ask(fetchOf(tt.version, 0, 1, 0, tt.topic)).(*kmsg.FetchResponse).Topics[0].Partitions[0]
		code(t, p.ErrorCode, tt.want)
		if got := len(p.RecordBatches) > 0; got != (tt.want == nil) {
			t.Errorf("fetch %d of %s: %d bytes of records", tt.version, tt.topic, len(p.RecordBatches))
		}
	}
}
