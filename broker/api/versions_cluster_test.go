package api_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/record"
)

func askDescribeQuorum(t *testing.T, w *world, v int16) {
	req := kmsg.NewPtrDescribeQuorumRequest()
	req.Version = v
	for _, name := range []string{"__cluster_metadata", "t"} {
		rt := kmsg.NewDescribeQuorumRequestTopic()
		rt.Topic, rt.Partitions = name, []kmsg.DescribeQuorumRequestTopicPartition{{Partition: 0}}
		req.Topics = append(req.Topics, rt)
	}
	resp := w.raw.ask(req).(*kmsg.DescribeQuorumResponse)
	code(t, resp.ErrorCode, nil)
	p := resp.Topics[0].Partitions[0]
	code(t, p.ErrorCode, nil)
	if p.LeaderEpoch < 1 || p.HighWatermark < 2 || len(p.CurrentVoters) != 1 || len(p.Observers) != 0 {
		t.Fatalf("quorum %+v, want one voter that leads", p)
	}
	if voter := p.CurrentVoters[0]; voter.ReplicaID != p.LeaderID || voter.LogEndOffset < p.HighWatermark || v >= 1 && voter.LastCaughtUpTimestamp <= 0 {
		t.Errorf("voter %+v of %+v", voter, p)
	}
	if v >= 2 && (len(resp.Nodes) != 1 || len(resp.Nodes[0].Listeners) != 1 || resp.Nodes[0].Listeners[0].Host != "127.0.0.1") {
		t.Errorf("nodes %+v, want this one with its listener", resp.Nodes)
	}
	before := p.HighWatermark
	w.createTopic(t, fmt.Sprintf("quorum-%d", v), 1)
	if p = w.raw.ask(req).(*kmsg.DescribeQuorumResponse).Topics[0].Partitions[0]; p.HighWatermark <= before {
		t.Errorf("high watermark %d after a topic was made, was %d", p.HighWatermark, before)
	}
	code(t, resp.Topics[1].Partitions[0].ErrorCode, kerr.UnknownTopicOrPartition)
}

func askDescribeProducers(t *testing.T, w *world, v int16) {
	w.createTopic(t, fmt.Sprintf("producers-%d", v), 1)
	name := fmt.Sprintf("producers-%d", v)
	b := record.NewBuilder(record.None)
	b.Header.ProducerID, b.Header.ProducerEpoch, b.Header.BaseSequence = 77, 3, 0
	b.Add(record.Record{Timestamp: 1234, Value: []byte("x")})
	b.Add(record.Record{Timestamp: 1235, Value: []byte("y")})
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	w.produce(t, name, batch)
	req := kmsg.NewPtrDescribeProducersRequest()
	req.Version = v
	for _, n := range []string{name, "t", "nowhere"} {
		rt := kmsg.NewDescribeProducersRequestTopic()
		rt.Topic, rt.Partitions = n, []int32{0, 9}
		req.Topics = append(req.Topics, rt)
	}
	resp := w.raw.ask(req).(*kmsg.DescribeProducersResponse)
	ps := resp.Topics[0].Partitions[0].ActiveProducers
	want := kmsg.DescribeProducersResponseTopicPartitionActiveProducer{ProducerID: 77, ProducerEpoch: 3, LastSequence: 1, LastTimestamp: 1235, CoordinatorEpoch: -1, CurrentTxnStartOffset: -1}
	if len(ps) != 1 || fmt.Sprint(ps[0]) != fmt.Sprint(want) {
		t.Errorf("producers %+v, want %+v", ps, want)
	}
	if ps = resp.Topics[1].Partitions[0].ActiveProducers; len(ps) != 0 {
		t.Errorf("producers %+v of a topic that none wrote to", ps)
	}
	code(t, resp.Topics[0].Partitions[0].ErrorCode, nil)
	code(t, resp.Topics[0].Partitions[1].ErrorCode, kerr.UnknownTopicOrPartition)
	code(t, resp.Topics[2].Partitions[0].ErrorCode, kerr.UnknownTopicOrPartition)
}

// page asks for one page of topics and gives it as topic-partition names.
func (w *world) page(t *testing.T, limit int32, cursor *kmsg.DescribeTopicPartitionsRequestCursor, names ...string) (page []string, next *kmsg.DescribeTopicPartitionsResponseNextCursor) {
	t.Helper()
	req := kmsg.NewPtrDescribeTopicPartitionsRequest()
	req.ResponsePartitionLimit, req.Cursor = limit, cursor
	for _, n := range names {
		rt := kmsg.NewDescribeTopicPartitionsRequestTopic()
		rt.Topic = n
		req.Topics = append(req.Topics, rt)
	}
	resp := w.raw.ask(req).(*kmsg.DescribeTopicPartitionsResponse)
	for _, rt := range resp.Topics {
		if rt.ErrorCode != 0 {
			page = append(page, fmt.Sprintf("%s: %d", *rt.Topic, rt.ErrorCode))
		}
		for _, p := range rt.Partitions {
			if p.ErrorCode != 0 || p.LeaderID != 1 && p.LeaderID != p.Replicas[0] || len(p.ISR) != 1 || len(p.OfflineReplicas) != 0 {
				t.Errorf("%s: %+v, want a led partition", *rt.Topic, p)
			}
			page = append(page, fmt.Sprintf("%s-%d", *rt.Topic, p.Partition))
		}
	}
	return page, resp.NextCursor
}

func askDescribeTopicPartitions(t *testing.T, w *world, v int16) {
	w.createTopic(t, "pages-a", 3)
	w.createTopic(t, "pages-b", 2)
	names := []string{"pages-b", "pages-a", "nowhere", "bad/name", "pages-a"}
	want := []string{"bad/name: 17", "nowhere: 3", "pages-a-0", "pages-a-1", "pages-a-2", "pages-b-0", "pages-b-1"}
	if page, next := w.page(t, 100, nil, names...); !slices.Equal(page, want) || next != nil {
		t.Errorf("one page %q, next %+v; want %q", page, next, want)
	}
	for limit := int32(1); limit <= 6; limit++ {
		var all []string
		var cursor *kmsg.DescribeTopicPartitionsRequestCursor
		for pages := 0; pages < 9; pages++ {
			page, next := w.page(t, limit, cursor, names...)
			all = append(all, page...)
			if next == nil {
				break
			}
			cursor = &kmsg.DescribeTopicPartitionsRequestCursor{Topic: next.Topic, Partition: next.Partition}
		}
		if !slices.Equal(all, want) {
			t.Errorf("pages of %d give %q, want %q", limit, all, want)
		}
	}
	everything, _ := w.page(t, 0, nil)
	if !slices.Contains(everything, "t-0") || !slices.Contains(everything, "__consumer_offsets-0") {
		t.Errorf("all topics are %q", everything)
	}
	gone := &kmsg.DescribeTopicPartitionsRequestCursor{Topic: "pages-aa", Partition: 7}
	if page, _ := w.page(t, 100, gone, append(names, "pages-aa")...); !slices.Equal(page, []string{"pages-b-0", "pages-b-1"}) {
		t.Errorf("after a topic that is gone: %q", page)
	}
}

func askElectLeaders(t *testing.T, w *world, v int16) {
	req := kmsg.NewPtrElectLeadersRequest()
	req.Version, req.TimeoutMillis = v, 5000
	for _, name := range []string{"t", "nowhere"} {
		rt := kmsg.NewElectLeadersRequestTopic()
		rt.Topic, rt.Partitions = name, []int32{0, 7}
		req.Topics = append(req.Topics, rt)
	}
	resp := w.raw.ask(req).(*kmsg.ElectLeadersResponse)
	code(t, resp.ErrorCode, nil)
	for i, e := range []*kerr.Error{kerr.ElectionNotNeeded, kerr.UnknownTopicOrPartition} {
		code(t, resp.Topics[0].Partitions[i].ErrorCode, e)
	}
	code(t, resp.Topics[1].Partitions[0].ErrorCode, kerr.UnknownTopicOrPartition)
	if resp.Topics[0].Partitions[0].ErrorMessage == nil {
		t.Error("an election that is not needed is not explained")
	}
	req.Topics = nil
	if resp = w.raw.ask(req).(*kmsg.ElectLeadersResponse); resp.ErrorCode != 0 || len(resp.Topics) != 0 {
		t.Errorf("election for all %+v, want none needed", resp)
	}
	if v >= 1 {
		req.ElectionType = 7
		code(t, w.raw.ask(req).(*kmsg.ElectLeadersResponse).ErrorCode, kerr.InvalidRequest)
	}
}

func askAlterPartitionAssignments(t *testing.T, w *world, v int16) {
	req := kmsg.NewPtrAlterPartitionAssignmentsRequest()
	req.Version, req.TimeoutMillis, req.AllowReplicationFactorChange = v, 5000, false
	node := int32(w.node.Node())
	rt := kmsg.NewAlterPartitionAssignmentsRequestTopic()
	rt.Topic = "t"
	for n, replicas := range [][]int32{{node}, nil, {}, {node, 99}} {
		p := kmsg.NewAlterPartitionAssignmentsRequestTopicPartition()
		p.Partition, p.Replicas = int32(n%2), replicas
		rt.Partitions = []kmsg.AlterPartitionAssignmentsRequestTopicPartition{p}
		req.Topics = append(req.Topics, rt)
	}
	req.Topics[2].Topic, req.Topics[3].Topic = "nowhere", "nowhere"
	resp := w.raw.ask(req).(*kmsg.AlterPartitionAssignmentsResponse)
	code(t, resp.ErrorCode, nil)
	for i, e := range []*kerr.Error{nil, kerr.NoReassignmentInProgress, kerr.UnknownTopicOrPartition, kerr.UnknownTopicOrPartition} {
		code(t, resp.Topics[i].Partitions[0].ErrorCode, e)
	}
	req.Topics = req.Topics[2:]
	req.Topics[0].Topic, req.Topics[1].Topic = "t", "t"
	resp = w.raw.ask(req).(*kmsg.AlterPartitionAssignmentsResponse)
	code(t, resp.Topics[0].Partitions[0].ErrorCode, kerr.InvalidReplicaAssignment)
	factor := kerr.InvalidReplicaAssignment
	if v >= 1 {
		factor = kerr.InvalidReplicationFactor
	}
	code(t, resp.Topics[1].Partitions[0].ErrorCode, factor)
}

func askListPartitionReassignments(t *testing.T, w *world, v int16) {
	req := kmsg.NewPtrListPartitionReassignmentsRequest()
	req.Version = v
	for range 2 {
		if resp := w.raw.ask(req).(*kmsg.ListPartitionReassignmentsResponse); resp.ErrorCode != 0 || len(resp.Topics) != 0 {
			t.Errorf("moves %+v, want none", resp)
		}
		rt := kmsg.NewListPartitionReassignmentsRequestTopic()
		rt.Topic, rt.Partitions = "t", []int32{0, 1}
		req.Topics = append(req.Topics, rt)
	}
}

func askUnregisterBroker(t *testing.T, w *world, v int16) {
	req := kmsg.NewPtrUnregisterBrokerRequest()
	req.Version, req.BrokerID = v, 99
	code(t, w.raw.ask(req).(*kmsg.UnregisterBrokerResponse).ErrorCode, kerr.BrokerIDNotRegistered)
	req.BrokerID = int32(w.node.Node())
	resp := w.raw.ask(req).(*kmsg.UnregisterBrokerResponse)
	code(t, resp.ErrorCode, kerr.InvalidRequest)
	if resp.ErrorMessage == nil {
		t.Error("it is not said why the asked broker stays")
	}
}

func askDescribeACLs(t *testing.T, w *world, v int16) {
	req := kmsg.NewPtrDescribeACLsRequest()
	req.Version = v
	req.ResourceType, req.ResourcePatternType, req.Operation, req.PermissionType = kmsg.ACLResourceTypeAny, kmsg.ACLResourcePatternTypeAny, kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
	resp := w.raw.ask(req).(*kmsg.DescribeACLsResponse)
	code(t, resp.ErrorCode, kerr.SecurityDisabled)
	if resp.ErrorMessage == nil || len(resp.Resources) != 0 {
		t.Errorf("answer %+v, want the reason and no rules", resp)
	}
}

func askCreateACLs(t *testing.T, w *world, v int16) {
	req := kmsg.NewPtrCreateACLsRequest()
	req.Version = v
	c := kmsg.NewCreateACLsRequestCreation()
	c.ResourceType, c.ResourceName, c.ResourcePatternType = kmsg.ACLResourceTypeTopic, "t", kmsg.ACLResourcePatternTypeLiteral
	c.Principal, c.Host, c.Operation, c.PermissionType = "User:a", "*", kmsg.ACLOperationRead, kmsg.ACLPermissionTypeAllow
	req.Creations = append(req.Creations, c, c)
	resp := w.raw.ask(req).(*kmsg.CreateACLsResponse)
	if len(resp.Results) != 2 {
		t.Fatalf("results %+v, want 2", resp.Results)
	}
	code(t, resp.Results[1].ErrorCode, kerr.SecurityDisabled)
}

func askDeleteACLs(t *testing.T, w *world, v int16) {
	req := kmsg.NewPtrDeleteACLsRequest()
	req.Version = v
	req.Filters = append(req.Filters, kmsg.NewDeleteACLsRequestFilter())
	resp := w.raw.ask(req).(*kmsg.DeleteACLsResponse)
	if len(resp.Results) != 1 {
		t.Fatalf("results %+v, want 1", resp.Results)
	}
	code(t, resp.Results[0].ErrorCode, kerr.SecurityDisabled)
}

func askDescribeUserSCRAMCredentials(t *testing.T, w *world, v int16) {
	req := kmsg.NewPtrDescribeUserSCRAMCredentialsRequest()
	req.Version = v
	resp := w.raw.ask(req).(*kmsg.DescribeUserSCRAMCredentialsResponse)
	if code(t, resp.ErrorCode, nil); len(resp.Results) != 0 {
		t.Errorf("users %+v, want none", resp.Results)
	}
	u := kmsg.NewDescribeUserSCRAMCredentialsRequestUser()
	u.Name = "alice"
	req.Users = append(req.Users, u)
	resp = w.raw.ask(req).(*kmsg.DescribeUserSCRAMCredentialsResponse)
	if len(resp.Results) != 1 || resp.Results[0].User != "alice" {
		t.Fatalf("users %+v, want an answer for alice", resp.Results)
	}
	code(t, resp.Results[0].ErrorCode, kerr.ResourceNotFound)
}

func askListConfigResources(t *testing.T, w *world, v int16) {
	req := kmsg.NewPtrListConfigResourcesRequest()
	req.Version = v
	list := func() (all []string) {
		resp := w.raw.ask(req).(*kmsg.ListConfigResourcesResponse)
		code(t, resp.ErrorCode, nil)
		for _, c := range resp.ConfigResources {
			all = append(all, fmt.Sprintf("%d %s", c.Type, c.Name))
		}
		return all
	}
	all := list()
	node := fmt.Sprint(int32(w.node.Node()))
	for _, name := range []string{"2 t", "4 " + node, "8 " + node} {
		if slices.Contains(all, name) != (v >= 1) {
			t.Errorf("resources %q, contain %q: %v", all, name, v < 1)
		}
	}
	if v >= 1 {
		req.ResourceTypes = []int8{4}
		if all = list(); !slices.Equal(all, []string{"4 " + node}) {
			t.Errorf("brokers %q", all)
		}
		req.ResourceTypes = []int8{99}
		code(t, w.raw.ask(req).(*kmsg.ListConfigResourcesResponse).ErrorCode, kerr.UnsupportedVersion)
	}
}

func askAddRaftVoter(t *testing.T, w *world, v int16) {
	req := kmsg.NewPtrAddRaftVoterRequest()
	req.Version = v
	ask := func(cluster string, node int32, want *kerr.Error) {
		t.Helper()
		req.ClusterID, req.VoterID = &cluster, node
		resp := w.raw.ask(req).(*kmsg.AddRaftVoterResponse)
		code(t, resp.ErrorCode, want)
		if resp.ErrorMessage == nil {
			t.Errorf("%v without a reason", want)
		}
	}
	ask("another", 7, kerr.InconsistentClusterID)
	ask("", 7, kerr.VoterNotFound)
	ask("", int32(w.node.Node()), kerr.DuplicateVoter)
}

func askRemoveRaftVoter(t *testing.T, w *world, v int16) {
	req := kmsg.NewPtrRemoveRaftVoterRequest()
	req.Version, req.VoterID = v, 7
	code(t, w.raw.ask(req).(*kmsg.RemoveRaftVoterResponse).ErrorCode, kerr.VoterNotFound)
	req.VoterID = int32(w.node.Node()) // the last one
	code(t, w.raw.ask(req).(*kmsg.RemoveRaftVoterResponse).ErrorCode, kerr.InvalidRequest)
	req.VoterDirectoryID = [16]byte{1}
	code(t, w.raw.ask(req).(*kmsg.RemoveRaftVoterResponse).ErrorCode, kerr.VoterNotFound)
}
