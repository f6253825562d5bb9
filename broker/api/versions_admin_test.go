package api_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func askCreateTopics(t *testing.T, w *world, v int16) {
	name := fmt.Sprintf("create-%d", v)
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Version = v
	for _, n := range []string{name, "t", "bad name", "twice", "twice"} {
		topic := kmsg.NewCreateTopicsRequestTopic()
		topic.Topic, topic.NumPartitions, topic.ReplicationFactor = n, 2, 1
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = "retention.ms", kmsg.StringPtr("3600000")
		topic.Configs = append(topic.Configs, c)
		req.Topics = append(req.Topics, topic)
	}
	resp := w.raw.ask(req).(*kmsg.CreateTopicsResponse)
	want := []*kerr.Error{nil, kerr.TopicAlreadyExists, kerr.InvalidTopicException, kerr.InvalidRequest, kerr.InvalidRequest}
	for i, e := range want {
		code(t, resp.Topics[i].ErrorCode, e)
		if v >= 1 && (e == nil) != (resp.Topics[i].ErrorMessage == nil) {
			t.Errorf("%s: message %v", req.Topics[i].Topic, resp.Topics[i].ErrorMessage)
		}
	}
	made := resp.Topics[0]
	if v >= 5 && (made.NumPartitions != 2 || made.ReplicationFactor != 1) {
		t.Errorf("created %+v, want 2 partitions and 1 replica", made)
	}
	if v >= 5 && !slices.ContainsFunc(made.Configs, func(c kmsg.CreateTopicsResponseTopicConfig) bool {
		return c.Name == "retention.ms" && *c.Value == "3600000" && c.Source == 1
	}) {
		t.Errorf("settings %+v lack retention.ms", made.Configs)
	}
	if v >= 7 && made.TopicID != w.idOf(t, name) {
		t.Errorf("topic ID %x is not the topic's", made.TopicID)
	}
	if v >= 1 {
		req.Topics = req.Topics[:1]
		req.Topics[0].Topic, req.ValidateOnly = name+"-not", true
		code(t, w.raw.ask(req).(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode, nil)
		if w.hasTopic(name + "-not") {
			t.Error("a topic was made by a request that only validates")
		}
	}
}

func (w *world) hasTopic(name string) bool {
	req := kmsg.NewPtrMetadataRequest()
	req.Version = 1
	resp := w.raw.ask(req).(*kmsg.MetadataResponse)
	return slices.ContainsFunc(resp.Topics, func(t kmsg.MetadataResponseTopic) bool { return *t.Topic == name })
}

func askDeleteTopics(t *testing.T, w *world, v int16) {
	name := fmt.Sprintf("delete-%d", v)
	w.createTopic(t, name, 1)
	id := w.id
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.Version, req.TopicNames = v, []string{name, "nowhere"}
	for _, n := range req.TopicNames {
		topic := kmsg.NewDeleteTopicsRequestTopic()
		topic.Topic = kmsg.StringPtr(n)
		req.Topics = append(req.Topics, topic)
	}
	resp := w.raw.ask(req).(*kmsg.DeleteTopicsResponse)
	code(t, resp.Topics[0].ErrorCode, nil)
	code(t, resp.Topics[1].ErrorCode, kerr.UnknownTopicOrPartition)
	if w.hasTopic(name) {
		t.Error("the deleted topic is still there")
	}
	if v < 6 {
		return
	}
	byID := kmsg.NewDeleteTopicsRequestTopic()
	byID.TopicID = id
	req.Topics = []kmsg.DeleteTopicsRequestTopic{byID}
	code(t, w.raw.ask(req).(*kmsg.DeleteTopicsResponse).Topics[0].ErrorCode, kerr.UnknownTopicID)
	w.createTopic(t, name, 1)
	req.Topics[0].TopicID = w.id
	resp = w.raw.ask(req).(*kmsg.DeleteTopicsResponse)
	code(t, resp.Topics[0].ErrorCode, nil)
	if resp.Topics[0].Topic == nil || *resp.Topics[0].Topic != name {
		t.Errorf("deleted by ID %+v, want its name", resp.Topics[0])
	}
}

func askDeleteRecords(t *testing.T, w *world, v int16) {
	name := fmt.Sprintf("records-%d", v)
	w.createTopic(t, name, 1)
	for i := range 3 {
		w.produce(t, name, batchOf("x", 1000+int64(i)))
	}
	ask := func(partition int32, offset int64) kmsg.DeleteRecordsResponseTopicPartition {
		req := kmsg.NewPtrDeleteRecordsRequest()
		req.Version = v
		topic := kmsg.NewDeleteRecordsRequestTopic()
		topic.Topic = name
		p := kmsg.NewDeleteRecordsRequestTopicPartition()
		p.Partition, p.Offset = partition, offset
		topic.Partitions = append(topic.Partitions, p)
		req.Topics = append(req.Topics, topic)
		return w.raw.ask(req).(*kmsg.DeleteRecordsResponse).Topics[0].Partitions[0]
	}
	p := ask(0, 2)
	code(t, p.ErrorCode, nil)
	if p.LowWatermark != 2 {
		t.Errorf("log start %d, want 2", p.LowWatermark)
	}
	code(t, ask(0, 4).ErrorCode, kerr.OffsetOutOfRange)
	code(t, ask(7, 0).ErrorCode, kerr.UnknownTopicOrPartition)
	if p = ask(0, -1); p.ErrorCode != 0 || p.LowWatermark != 3 {
		t.Errorf("everything deleted: %+v, want log start 3", p)
	}
}

func askInitProducerID(t *testing.T, w *world, v int16) {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.Version = v
	one := w.raw.ask(req).(*kmsg.InitProducerIDResponse)
	two := w.raw.ask(req).(*kmsg.InitProducerIDResponse)
	code(t, one.ErrorCode, nil)
	if one.ProducerID < 0 || one.ProducerID == two.ProducerID || one.ProducerEpoch != 0 {
		t.Errorf("producers %+v and %+v, want two IDs with epoch 0", one, two)
	}
	askInitTransactions(t, w, v)
}

func askOffsetForLeaderEpoch(t *testing.T, w *world, v int16) {
	req := kmsg.NewPtrOffsetForLeaderEpochRequest()
	req.Version = v
	topic := kmsg.NewOffsetForLeaderEpochRequestTopic()
	topic.Topic = "t"
	for _, epoch := range []int32{0, 1 << 20} {
		p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
		p.LeaderEpoch = epoch
		topic.Partitions = append(topic.Partitions, p)
	}
	req.Topics = append(req.Topics, topic)
	parts := w.raw.ask(req).(*kmsg.OffsetForLeaderEpochResponse).Topics[0].Partitions
	code(t, parts[0].ErrorCode, nil)
	if parts[0].EndOffset != 3 || v >= 1 && parts[0].LeaderEpoch != 0 {
		t.Errorf("epoch 0: %+v, want end 3", parts[0])
	}
	if parts[1].EndOffset != -1 {
		t.Errorf("an epoch of the future: %+v, want none", parts[1])
	}
	if v >= 2 {
		req.Topics[0].Partitions[0].CurrentLeaderEpoch = 1 << 20
		parts = w.raw.ask(req).(*kmsg.OffsetForLeaderEpochResponse).Topics[0].Partitions
		code(t, parts[0].ErrorCode, kerr.UnknownLeaderEpoch)
	}
}

func describe(v int16, kind kmsg.ConfigResourceType, name string, names ...string) *kmsg.DescribeConfigsRequest {
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.Version, req.IncludeSynonyms, req.IncludeDocumentation = v, true, true
	res := kmsg.NewDescribeConfigsRequestResource()
	res.ResourceType, res.ResourceName, res.ConfigNames = kind, name, names
	req.Resources = append(req.Resources, res)
	return req
}

func askDescribeConfigs(t *testing.T, w *world, v int16) {
	topic := w.raw.ask(describe(v, kmsg.ConfigResourceTypeTopic, "t")).(*kmsg.DescribeConfigsResponse).Resources[0]
	code(t, topic.ErrorCode, nil)
	if len(topic.Configs) < 20 {
		t.Errorf("%d settings of a topic, want all", len(topic.Configs))
	}
	for _, c := range topic.Configs {
		switch {
		case c.Name == "flush.messages" && *c.Value != "1":
			t.Errorf("flush.messages is %s with one replica, want what holds: 1", *c.Value)
		case c.Name == "max.message.bytes" && *c.Value != "10485760":
			t.Errorf("max.message.bytes is %s", *c.Value)
		case v >= 1 && c.Source == 0, v >= 3 && (c.ConfigType == 0 || c.Documentation == nil):
			t.Errorf("setting %+v lacks source, type or text", c)
		case v >= 1 && c.Name == "retention.ms" && len(c.ConfigSynonyms) == 0:
			t.Error("retention.ms has no synonyms")
		}
	}
	broker := w.raw.ask(describe(v, kmsg.ConfigResourceTypeBroker, "0", "message.max.bytes", "num.partitions")).(*kmsg.DescribeConfigsResponse).Resources[0]
	code(t, broker.ErrorCode, nil)
	if len(broker.Configs) != 2 {
		t.Fatalf("settings %+v, want the two asked for", broker.Configs)
	}
	for _, c := range broker.Configs {
		if readOnly := c.Name == "num.partitions"; c.ReadOnly != readOnly {
			t.Errorf("%s read only: %v", c.Name, c.ReadOnly)
		}
	}
	node := fmt.Sprint(int32(w.node.Node()))
	for _, tt := range []struct {
		kind           kmsg.ConfigResourceType
		resource, name string
		value          string
		source         kmsg.ConfigSource
		readOnly       bool
	}{
		{8, node, "root", "INFO", 6, true},
		{16, "some", "interval.ms", "300000", 5, false},
		{16, "some", "match", "", 5, false},
		{32, "some", "consumer.session.timeout.ms", "45000", 5, false},
		{32, "some", "consumer.heartbeat.interval.ms", "5000", 5, false},
	} {
		res := w.raw.ask(describe(v, tt.kind, tt.resource, tt.name)).(*kmsg.DescribeConfigsResponse).Resources[0]
		if code(t, res.ErrorCode, nil); len(res.Configs) != 1 {
			t.Fatalf("type %d: settings %+v, want %s", tt.kind, res.Configs, tt.name)
		}
		if c := res.Configs[0]; *c.Value != tt.value || c.ReadOnly != tt.readOnly || v >= 1 && c.Source != tt.source || v >= 3 && c.Documentation == nil {
			t.Errorf("type %d: %+v, want %+v", tt.kind, c, tt)
		}
	}
	many := describe(v, 32, "g0")
	for n := range 1000 {
		one := kmsg.NewDescribeConfigsRequestResource()
		one.ResourceType, one.ResourceName = 32, fmt.Sprint("g", n+1)
		many.Resources = append(many.Resources, one)
	}
	all := w.raw.ask(many).(*kmsg.DescribeConfigsResponse).Resources
	code(t, all[999].ErrorCode, nil)
	code(t, all[1000].ErrorCode, kerr.InvalidRequest)
	for kind, want := range map[kmsg.ConfigResourceType]*kerr.Error{8: kerr.InvalidRequest, kmsg.ConfigResourceTypeTopic: kerr.UnknownTopicOrPartition, kmsg.ConfigResourceTypeBroker: kerr.InvalidRequest, 77: kerr.InvalidRequest} {
		code(t, w.raw.ask(describe(v, kind, "nowhere")).(*kmsg.DescribeConfigsResponse).Resources[0].ErrorCode, want)
	}
}

// setting gives the value and the source of one setting.
func (w *world) setting(t *testing.T, kind kmsg.ConfigResourceType, resource, name string) (string, kmsg.ConfigSource) {
	t.Helper()
	c := w.raw.ask(describe(1, kind, resource, name)).(*kmsg.DescribeConfigsResponse).Resources[0].Configs
	if len(c) != 1 {
		t.Fatalf("%s has %d settings %q", resource, len(c), name)
	}
	return *c[0].Value, c[0].Source
}

func askAlterConfigs(t *testing.T, w *world, v int16) {
	name := fmt.Sprintf("alter-%d", v)
	w.createTopic(t, name, 1)
	alter := func(setting, value string) int16 {
		req := kmsg.NewPtrAlterConfigsRequest()
		req.Version = v
		res := kmsg.NewAlterConfigsRequestResource()
		res.ResourceType, res.ResourceName = kmsg.ConfigResourceTypeTopic, name
		c := kmsg.NewAlterConfigsRequestResourceConfig()
		c.Name, c.Value = setting, &value
		res.Configs = append(res.Configs, c)
		req.Resources = append(req.Resources, res)
		return w.raw.ask(req).(*kmsg.AlterConfigsResponse).Resources[0].ErrorCode
	}
	code(t, alter("retention.ms", "7200000"), nil)
	if value, from := w.setting(t, kmsg.ConfigResourceTypeTopic, name, "retention.ms"); value != "7200000" || from != 1 {
		t.Errorf("retention.ms is %s from %v", value, from)
	}
	code(t, alter("segment.bytes", "2000000"), nil)
	if value, from := w.setting(t, kmsg.ConfigResourceTypeTopic, name, "retention.ms"); value == "7200000" || from == 1 {
		t.Errorf("retention.ms is still %s: what is not named goes back to its default", value)
	}
	code(t, alter("retention.ms", "soon"), kerr.InvalidConfig)
	code(t, alter("no.such.setting", "1"), kerr.InvalidConfig)
}

func askIncrementalAlterConfigs(t *testing.T, w *world, v int16) {
	name := fmt.Sprintf("incremental-%d", v)
	w.createTopic(t, name, 1)
	alter := func(kind kmsg.ConfigResourceType, resource, setting string, op int8, value *string) kmsg.IncrementalAlterConfigsResponseResource {
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		req.Version = v
		res := kmsg.NewIncrementalAlterConfigsRequestResource()
		res.ResourceType, res.ResourceName = kind, resource
		c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		c.Name, c.Op, c.Value = setting, kmsg.IncrementalAlterConfigOp(op), value
		res.Configs = append(res.Configs, c)
		req.Resources = append(req.Resources, res)
		return w.raw.ask(req).(*kmsg.IncrementalAlterConfigsResponse).Resources[0]
	}
	topic, broker := kmsg.ConfigResourceTypeTopic, kmsg.ConfigResourceTypeBroker
	code(t, alter(topic, name, "retention.ms", 0, kmsg.StringPtr("7200000")).ErrorCode, nil)
	code(t, alter(topic, name, "segment.bytes", 0, kmsg.StringPtr("2000000")).ErrorCode, nil)
	code(t, alter(topic, name, "cleanup.policy", 2, kmsg.StringPtr("compact")).ErrorCode, nil)
	if value, _ := w.setting(t, topic, name, "cleanup.policy"); value != "delete,compact" {
		t.Errorf("cleanup.policy is %q after appending to it", value)
	}
	code(t, alter(topic, name, "segment.bytes", 1, nil).ErrorCode, nil)
	if value, from := w.setting(t, topic, name, "segment.bytes"); value == "2000000" || from == 1 {
		t.Errorf("segment.bytes is still %s", value)
	}
	if value, _ := w.setting(t, topic, name, "retention.ms"); value != "7200000" {
		t.Errorf("retention.ms is %s: what is not named stays", value)
	}
	code(t, alter(broker, "", "message.max.bytes", 0, kmsg.StringPtr("1000000")).ErrorCode, nil)
	if value, from := w.setting(t, topic, name, "max.message.bytes"); value != "1000000" || from != 3 {
		t.Errorf("max.message.bytes is %s from %v after the default of all brokers changed", value, from)
	}
	code(t, alter(broker, "", "message.max.bytes", 1, nil).ErrorCode, nil)
	code(t, alter(32, name, "consumer.session.timeout.ms", 0, kmsg.StringPtr("50000")).ErrorCode, nil)
	if value, from := w.setting(t, 32, name, "consumer.session.timeout.ms"); value != "50000" || from != 8 {
		t.Errorf("consumer.session.timeout.ms is %s from %v", value, from)
	}
	code(t, alter(16, name, "interval.ms", 0, kmsg.StringPtr("1000")).ErrorCode, nil)
	if value, from := w.setting(t, 16, name, "interval.ms"); value != "1000" || from != 7 {
		t.Errorf("interval.ms is %s from %v", value, from)
	}
	code(t, alter(16, name, "interval.ms", 1, nil).ErrorCode, nil)
	code(t, alter(16, name, "match", 0, kmsg.StringPtr("shoe_size=43")).ErrorCode, kerr.InvalidConfig)
	code(t, alter(8, fmt.Sprint(int32(w.node.Node())), "root", 0, kmsg.StringPtr("DEBUG")).ErrorCode, kerr.InvalidRequest)
	bad := alter(broker, "", "message.max.bytes", 0, kmsg.StringPtr("10485761"))
	code(t, bad.ErrorCode, kerr.InvalidConfig)
	if bad.ErrorMessage == nil {
		t.Error("a value out of range is refused without the range")
	}
	code(t, alter(topic, name, "retention.ms", 9, kmsg.StringPtr("1")).ErrorCode, kerr.InvalidRequest)
	code(t, alter(topic, "nowhere", "retention.ms", 0, kmsg.StringPtr("1")).ErrorCode, kerr.UnknownTopicOrPartition)
}

func askDescribeLogDirs(t *testing.T, w *world, v int16) {
	req := kmsg.NewPtrDescribeLogDirsRequest()
	req.Version = v
	resp := w.raw.ask(req).(*kmsg.DescribeLogDirsResponse)
	code(t, resp.ErrorCode, nil)
	if len(resp.Dirs) != 1 || resp.Dirs[0].ErrorCode != 0 || resp.Dirs[0].Dir != w.node.DataDir() {
		t.Fatalf("directories %+v, want %s", resp.Dirs, w.node.DataDir())
	}
	if v >= 4 && (resp.Dirs[0].TotalBytes <= 0 || resp.Dirs[0].UsableBytes <= 0) {
		t.Errorf("sizes %d and %d of the file system", resp.Dirs[0].TotalBytes, resp.Dirs[0].UsableBytes)
	}
	topic := kmsg.NewDescribeLogDirsRequestTopic()
	topic.Topic, topic.Partitions = "t", []int32{0}
	req.Topics = append(req.Topics, topic)
	resp = w.raw.ask(req).(*kmsg.DescribeLogDirsResponse)
	topics := resp.Dirs[0].Topics
	if len(topics) != 1 || len(topics[0].Partitions) != 1 || topics[0].Partitions[0].Size <= 0 {
		t.Errorf("topics %+v, want the one partition with its bytes", topics)
	}
}

func askCreatePartitions(t *testing.T, w *world, v int16) {
	name := fmt.Sprintf("grow-%d", v)
	w.createTopic(t, name, 1)
	req := kmsg.NewPtrCreatePartitionsRequest()
	req.Version = v
	for n, count := range map[string]int32{name: 3, "nowhere": 2} {
		topic := kmsg.NewCreatePartitionsRequestTopic()
		topic.Topic, topic.Count = n, count
		req.Topics = append(req.Topics, topic)
	}
	resp := w.raw.ask(req).(*kmsg.CreatePartitionsResponse)
	if len(resp.Topics) != 2 {
		t.Fatalf("%d topics are echoed, want 2", len(resp.Topics))
	}
	for _, rt := range resp.Topics {
		if rt.Topic == name {
			code(t, rt.ErrorCode, nil)
		} else {
			code(t, rt.ErrorCode, kerr.UnknownTopicOrPartition)
		}
	}
	p := produceRequest(9, name, batchOf("x", 1000))
	p.Topics[0].Partitions[0].Partition = 2
	code(t, w.raw.ask(p).(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode, nil)
	req.Topics = req.Topics[:1]
	req.Topics[0].Topic, req.Topics[0].Count = name, 2
	code(t, w.raw.ask(req).(*kmsg.CreatePartitionsResponse).Topics[0].ErrorCode, kerr.InvalidPartitions)
}
