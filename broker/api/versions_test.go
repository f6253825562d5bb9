package api_test

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/brokertest"
	"github.com/belfry-mq/belfry/broker/record"
)

// world is what the version tests ask about: topic "t" with two partitions, three
// records in the first, and the offset 2 committed for group "g".
type world struct {
	node *brokertest.Broker
	raw  *rawClient
	id   [16]byte
}

func newWorld(t *testing.T) *world {
	t.Helper()
	node := brokertest.Start(t)
	w := &world{node: node, raw: dialRaw(t, node.Addr())}
	w.createTopic(t, "t", 2)
	for i := range 3 {
		w.produce(t, "t", batchOf(fmt.Sprintf("record %d", i), 1000+int64(i)))
	}
	w.findGroup(t)
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Version, commit.Group, commit.Topics = 2, "g", commitTopics(2)
	if resp := w.raw.ask(commit).(*kmsg.OffsetCommitResponse); resp.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Fatalf("cannot commit: %+v", resp)
	}
	return w
}

// findGroup makes the group's topic and waits until its coordinator has read it.
func (w *world) findGroup(t *testing.T) {
	t.Helper()
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorKey = "g"
	if resp := w.raw.ask(find).(*kmsg.FindCoordinatorResponse); resp.ErrorCode != 0 {
		t.Fatalf("cannot find coordinator: %+v", resp)
	}
	brokertest.Eventually(t, "the coordinator has loaded", func() bool {
		fetch := kmsg.NewPtrOffsetFetchRequest()
		fetch.Version, fetch.Group = 2, "g"
		return w.raw.ask(fetch).(*kmsg.OffsetFetchResponse).ErrorCode == 0
	})
}

func commitTopics(offset int64) []kmsg.OffsetCommitRequestTopic {
	topic := kmsg.NewOffsetCommitRequestTopic()
	topic.Topic = "t"
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Offset, p.Metadata = offset, kmsg.StringPtr("meta")
	topic.Partitions = append(topic.Partitions, p)
	return []kmsg.OffsetCommitRequestTopic{topic}
}

func (w *world) createTopic(t *testing.T, name string, partitions int32) {
	t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Version = 7
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, partitions, 1
	req.Topics = append(req.Topics, topic)
	resp := w.raw.ask(req).(*kmsg.CreateTopicsResponse)
	if resp.Topics[0].ErrorCode != 0 {
		t.Fatalf("cannot create topic: %+v", resp.Topics[0])
	}
	w.id = resp.Topics[0].TopicID
}

// batchOf gives a batch of one record.
func batchOf(value string, timestamp int64) []byte {
	b := record.NewBuilder(record.None)
	b.Add(record.Record{Timestamp: timestamp, Key: []byte("k"), Value: []byte(value), Headers: []record.Pair{{Key: []byte("h"), Value: []byte("v")}}})
	batch, err := b.Build()
	if err != nil {
		panic(err)
	}
	return batch
}

func produceRequest(version int16, topic string, batch []byte) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = version, -1, 5000
	t := kmsg.NewProduceRequestTopic()
	t.Topic = topic
	p := kmsg.NewProduceRequestTopicPartition()
	p.Records = batch
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	return req
}

func (w *world) produce(t *testing.T, topic string, batch []byte) kmsg.ProduceResponseTopicPartition {
	t.Helper()
	resp := w.raw.ask(produceRequest(9, topic, batch)).(*kmsg.ProduceResponse)
	p := resp.Topics[0].Partitions[0]
	if p.ErrorCode != 0 {
		t.Fatalf("cannot produce: %+v", p)
	}
	return p
}

// TestEveryVersion asks every API in every version that is advertised.
func TestEveryVersion(t *testing.T) {
	w := newWorld(t)
	versions := kmsg.NewPtrApiVersionsRequest()
	served := w.raw.ask(versions).(*kmsg.ApiVersionsResponse)
	if len(served.ApiKeys) != len(questions()) {
		t.Errorf("%d APIs are served, the test knows %d", len(served.ApiKeys), len(questions()))
	}
	for _, k := range served.ApiKeys {
		q, ok := questions()[kmsg.Key(k.ApiKey)]
		if !ok {
			t.Errorf("%s is served and not tested", kmsg.NameForKey(k.ApiKey))
			continue
		}
		if k.MinVersion != 0 {
			t.Errorf("%s is served from version %d", kmsg.NameForKey(k.ApiKey), k.MinVersion)
		}
		for v := int16(0); v <= k.MaxVersion; v++ {
			t.Run(fmt.Sprintf("%s/%d", kmsg.NameForKey(k.ApiKey), v), func(t *testing.T) {
				w.raw = dialRaw(t, w.node.Addr())
				q(t, w, v)
			})
		}
	}
}

func code(t *testing.T, got int16, want *kerr.Error) {
	t.Helper()
	if want == nil && got != 0 || want != nil && got != want.Code {
		t.Errorf("code %d (%v), want %v", got, kerr.ErrorForCode(got), want)
	}
}

// questions gives a question for each API, in any version.
func questions() map[kmsg.Key]func(*testing.T, *world, int16) {
	return map[kmsg.Key]func(*testing.T, *world, int16){
		kmsg.Produce:                      askProduce,
		kmsg.Fetch:                        askFetch,
		kmsg.ListOffsets:                  askListOffsets,
		kmsg.Metadata:                     askMetadata,
		kmsg.OffsetCommit:                 askOffsetCommit,
		kmsg.OffsetFetch:                  askOffsetFetch,
		kmsg.FindCoordinator:              askFindCoordinator,
		kmsg.JoinGroup:                    askJoinGroup,
		kmsg.Heartbeat:                    askHeartbeat,
		kmsg.LeaveGroup:                   askLeaveGroup,
		kmsg.SyncGroup:                    askSyncGroup,
		kmsg.DescribeGroups:               askDescribeGroups,
		kmsg.ListGroups:                   askListGroups,
		kmsg.ApiVersions:                  askApiVersions,
		kmsg.CreateTopics:                 askCreateTopics,
		kmsg.DeleteTopics:                 askDeleteTopics,
		kmsg.DeleteRecords:                askDeleteRecords,
		kmsg.InitProducerID:               askInitProducerID,
		kmsg.OffsetForLeaderEpoch:         askOffsetForLeaderEpoch,
		kmsg.DescribeConfigs:              askDescribeConfigs,
		kmsg.AlterConfigs:                 askAlterConfigs,
		kmsg.AlterReplicaLogDirs:          askAlterReplicaLogDirs,
		kmsg.DescribeLogDirs:              askDescribeLogDirs,
		kmsg.CreatePartitions:             askCreatePartitions,
		kmsg.DeleteGroups:                 askDeleteGroups,
		kmsg.IncrementalAlterConfigs:      askIncrementalAlterConfigs,
		kmsg.OffsetDelete:                 askOffsetDelete,
		kmsg.DescribeCluster:              askDescribeCluster,
		kmsg.UpdateFeatures:               askUpdateFeatures,
		kmsg.DescribeQuorum:               askDescribeQuorum,
		kmsg.AddRaftVoter:                 askAddRaftVoter,
		kmsg.RemoveRaftVoter:              askRemoveRaftVoter,
		kmsg.DescribeProducers:            askDescribeProducers,
		kmsg.WriteTxnMarkers:              askWriteTxnMarkers,
		kmsg.DescribeTopicPartitions:      askDescribeTopicPartitions,
		kmsg.ElectLeaders:                 askElectLeaders,
		kmsg.AlterPartitionAssignments:    askAlterPartitionAssignments,
		kmsg.ListPartitionReassignments:   askListPartitionReassignments,
		kmsg.UnregisterBroker:             askUnregisterBroker,
		kmsg.DescribeTransactions:         askDescribeTransactions,
		kmsg.ListTransactions:             askListTransactions,
		kmsg.AddPartitionsToTxn:           askAddPartitionsToTxn,
		kmsg.AddOffsetsToTxn:              askAddOffsetsToTxn,
		kmsg.EndTxn:                       askEndTxn,
		kmsg.TxnOffsetCommit:              askTxnOffsetCommit,
		kmsg.DescribeACLs:                 askDescribeACLs,
		kmsg.CreateACLs:                   askCreateACLs,
		kmsg.DeleteACLs:                   askDeleteACLs,
		kmsg.DescribeUserSCRAMCredentials: askDescribeUserSCRAMCredentials,
		kmsg.DescribeClientQuotas:         askDescribeClientQuotas,
		kmsg.AlterClientQuotas:            askAlterClientQuotas,
		kmsg.ListConfigResources:          askListConfigResources,
		kmsg.GetTelemetrySubscriptions:    askGetTelemetrySubscriptions,
		kmsg.PushTelemetry:                askPushTelemetry,
		kmsg.ConsumerGroupHeartbeat:       askConsumerGroupHeartbeat,
		kmsg.ConsumerGroupDescribe:        askConsumerGroupDescribe,
	}
}

func askProduce(t *testing.T, w *world, v int16) {
	w.createTopic(t, fmt.Sprintf("produce-%d", v), 1)
	batch := batchOf("x", 5000)
	if v < 3 {
		batch = messageSet(t, min(int8(v), 1), "x", 5000)
	}
	req := produceRequest(v, fmt.Sprintf("produce-%d", v), batch)
	req.Topics[0].TopicID = w.id
	resp := w.raw.ask(req).(*kmsg.ProduceResponse)
	if v >= 13 && resp.Topics[0].TopicID != w.id {
		t.Errorf("answer for topic ID %x, want %x", resp.Topics[0].TopicID, w.id)
	}
	p := resp.Topics[0].Partitions[0]
	code(t, p.ErrorCode, nil)
	if p.BaseOffset != 0 || v >= 2 && p.LogAppendTime != -1 || v >= 5 && p.LogStartOffset != 0 {
		t.Errorf("answer %+v, want offset 0, no append time, log start 0", p)
	}
	resp = w.raw.ask(produceRequest(v, "nowhere", batch)).(*kmsg.ProduceResponse)
	if v >= 13 {
		code(t, resp.Topics[0].Partitions[0].ErrorCode, kerr.UnknownTopicID)
		return
	}
	code(t, resp.Topics[0].Partitions[0].ErrorCode, kerr.UnknownTopicOrPartition)
}

func fetchRequest(w *world, v int16, offset int64) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxWaitMillis, req.MinBytes, req.MaxBytes = v, 100, 1, 1<<20
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.TopicID = "t", w.id
	for i := range int32(2) {
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.FetchOffset, p.PartitionMaxBytes = i, offset, 1<<20
		topic.Partitions = append(topic.Partitions, p)
		offset = 0
	}
	req.Topics = append(req.Topics, topic)
	return req
}

func askFetch(t *testing.T, w *world, v int16) {
	w.id = w.idOf(t, "t")
	resp := w.raw.ask(fetchRequest(w, v, 1)).(*kmsg.FetchResponse)
	code(t, resp.ErrorCode, nil)
	parts := resp.Topics[0].Partitions
	if len(parts) != 2 || parts[0].HighWatermark != 3 {
		t.Fatalf("partitions %+v, want two, the first up to 3", parts)
	}
	if parts[1].RecordBatches == nil || len(parts[1].RecordBatches) != 0 {
		t.Errorf("records of the empty partition are %v, want empty and not null", parts[1].RecordBatches)
	}
	b := parts[0].RecordBatches
	if v < 4 {
		want := int8(0)
		if v >= 2 {
			want = 1
		}
		if len(b) < 17 || int8(b[16]) != want {
			t.Fatalf("records %x, want message format %d", b, want)
		}
	} else if got := valuesOf(t, b); len(got) != 2 || got[0] != "record 1" || got[1] != "record 2" {
		t.Errorf("values %q, want records 1 and 2", got)
	}
	resp = w.raw.ask(fetchRequest(w, v, 99)).(*kmsg.FetchResponse)
	code(t, resp.Topics[0].Partitions[0].ErrorCode, kerr.OffsetOutOfRange)
}

func valuesOf(t *testing.T, b []byte) (values []string) {
	t.Helper()
	for len(b) > 0 {
		h, err := record.Verify(b)
		if err != nil {
			t.Fatal(err)
		}
		if err := record.Each(b[:h.Size()], func(r record.Record) error {
			values = append(values, string(r.Value))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		b = b[h.Size():]
	}
	return values
}

func (w *world) idOf(t *testing.T, name string) [16]byte {
	t.Helper()
	req := kmsg.NewPtrMetadataRequest()
	req.Version = 12
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = &name
	req.Topics = append(req.Topics, topic)
	resp := w.raw.ask(req).(*kmsg.MetadataResponse)
	code(t, resp.Topics[0].ErrorCode, nil)
	return resp.Topics[0].TopicID
}

func listOffsets(v int16, timestamp int64) *kmsg.ListOffsetsRequest {
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version = v
	topic := kmsg.NewListOffsetsRequestTopic()
	topic.Topic = "t"
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Timestamp, p.MaxNumOffsets = timestamp, 10
	topic.Partitions = append(topic.Partitions, p)
	req.Topics = append(req.Topics, topic)
	return req
}

func askListOffsets(t *testing.T, w *world, v int16) {
	tests := []struct {
		timestamp, offset, at int64
		from                  int16
	}{
		{-2, 0, -1, 0}, {-1, 3, -1, 0}, {1001, 1, 1001, 1}, {999, 0, 1000, 1}, {5000, -1, -1, 1}, {-3, 2, 1002, 7}, {-4, 0, -1, 8}, {-5, -1, -1, 9}, {-6, -1, -1, 11},
	}
	for _, tt := range tests {
		p := w.raw.ask(listOffsets(v, tt.timestamp)).(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
		if v < tt.from {
			if tt.from >= 7 {
				code(t, p.ErrorCode, kerr.UnsupportedVersion)
			}
			continue
		}
		code(t, p.ErrorCode, nil)
		if v == 0 {
			if len(p.OldStyleOffsets) == 0 || p.OldStyleOffsets[0] != tt.offset {
				t.Errorf("time %d: offsets %v, want %d first", tt.timestamp, p.OldStyleOffsets, tt.offset)
			}
			continue
		}
		if p.Offset != tt.offset || p.Timestamp != tt.at || v >= 4 && tt.offset >= 0 && p.LeaderEpoch < 0 {
			t.Errorf("time %d: %+v, want offset %d at %d", tt.timestamp, p, tt.offset, tt.at)
		}
	}
}

func askMetadata(t *testing.T, w *world, v int16) {
	id := w.idOf(t, "t")
	req := kmsg.NewPtrMetadataRequest()
	req.Version = v
	for _, name := range []string{"t", "nowhere", "bad/name"} {
		topic := kmsg.NewMetadataRequestTopic()
		topic.Topic = &name
		req.Topics = append(req.Topics, topic)
	}
	resp := w.raw.ask(req).(*kmsg.MetadataResponse)
	if len(resp.Brokers) != 1 || resp.Brokers[0].Host != "127.0.0.1" || v >= 1 && resp.ControllerID != resp.Brokers[0].NodeID {
		t.Errorf("brokers %+v, controller %d; want one broker on loopback", resp.Brokers, resp.ControllerID)
	}
	if v >= 2 && (resp.ClusterID == nil || *resp.ClusterID == "") {
		t.Error("no cluster ID")
	}
	code(t, resp.Topics[0].ErrorCode, nil)
	code(t, resp.Topics[1].ErrorCode, kerr.UnknownTopicOrPartition)
	code(t, resp.Topics[2].ErrorCode, kerr.InvalidTopicException)
	if parts := resp.Topics[0].Partitions; len(parts) != 2 || parts[0].ErrorCode != 0 || parts[0].Leader != resp.Brokers[0].NodeID {
		t.Errorf("partitions %+v, want two that are led", parts)
	}
	if v >= 10 && resp.Topics[0].TopicID != id {
		t.Errorf("topic ID %x, want %x", resp.Topics[0].TopicID, id)
	}
	req.Topics = []kmsg.MetadataRequestTopic{}
	if resp = w.raw.ask(req).(*kmsg.MetadataResponse); (v == 0) != (len(resp.Topics) > 0) {
		t.Errorf("an empty list gives %d topics", len(resp.Topics))
	}
	if v > 0 {
		req.Topics = nil
		if resp = w.raw.ask(req).(*kmsg.MetadataResponse); len(resp.Topics) < 2 {
			t.Errorf("null gives %d topics, want all", len(resp.Topics))
		}
	}
	if v >= 12 {
		topic := kmsg.NewMetadataRequestTopic()
		topic.TopicID = id
		req.Topics = []kmsg.MetadataRequestTopic{topic}
		if resp = w.raw.ask(req).(*kmsg.MetadataResponse); resp.Topics[0].Topic == nil || *resp.Topics[0].Topic != "t" {
			t.Errorf("topic by ID: %+v", resp.Topics[0])
		}
		req.Topics[0].TopicID = [16]byte{1}
		resp = w.raw.ask(req).(*kmsg.MetadataResponse)
		code(t, resp.Topics[0].ErrorCode, kerr.UnknownTopicID)
	}
}

func askApiVersions(t *testing.T, w *world, v int16) {
	req := kmsg.NewPtrApiVersionsRequest()
	req.Version, req.ClientSoftwareName, req.ClientSoftwareVersion = v, "raw", "1.0"
	resp := w.raw.ask(req).(*kmsg.ApiVersionsResponse)
	code(t, resp.ErrorCode, nil)
	if len(resp.ApiKeys) != len(questions()) {
		t.Errorf("%d APIs, want %d", len(resp.ApiKeys), len(questions()))
	}
	if v >= 3 {
		req.ClientSoftwareName = "-bad-"
		code(t, w.raw.ask(req).(*kmsg.ApiVersionsResponse).ErrorCode, kerr.InvalidRequest)
	}
}

func askDescribeCluster(t *testing.T, w *world, v int16) {
	req := kmsg.NewPtrDescribeClusterRequest()
	req.Version, req.IncludeClusterAuthorizedOperations = v, true
	resp := w.raw.ask(req).(*kmsg.DescribeClusterResponse)
	code(t, resp.ErrorCode, nil)
	if len(resp.Brokers) != 1 || resp.ClusterID == "" || resp.ClusterAuthorizedOperations <= 0 {
		t.Errorf("answer %+v, want one broker and what may be done", resp)
	}
	if v >= 1 {
		req.EndpointType = 2
		code(t, w.raw.ask(req).(*kmsg.DescribeClusterResponse).ErrorCode, kerr.MismatchedEndpointType)
	}
}
