package cluster

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// fakeCluster answers as brokers of Kafka 2.7 do, over pipes. Hooks may change or
// withhold any answer.
type fakeCluster struct {
	t       *testing.T
	brokers int32
	topics  map[string]int32            // partitions
	commits map[string]map[string]int64 // group → topic → offset committed in partition 0
	members map[string]int
	// hook may change an answer; nil withholds it for good.
	hook func(broker int32, req kmsg.Request, resp kmsg.Response) kmsg.Response

	mu    sync.Mutex
	ends  int64
	seen  []string
	conns []net.Conn
	group sync.WaitGroup
}

func (f *fakeCluster) dial(_ context.Context, _, address string) (net.Conn, error) {
	var id int32
	if _, err := fmt.Sscanf(address, "b%d:9092", &id); err != nil || id >= f.brokers {
		return nil, fmt.Errorf("cannot reach %q", address)
	}
	ours, theirs := net.Pipe()
	f.mu.Lock()
	f.conns = append(f.conns, ours)
	f.mu.Unlock()
	f.group.Go(func() { f.serve(id, ours) })
	return theirs, nil
}

func (f *fakeCluster) close() {
	f.mu.Lock()
	for _, c := range f.conns {
		c.Close()
	}
	f.mu.Unlock()
	f.group.Wait()
}

func (f *fakeCluster) serve(id int32, c net.Conn) {
	defer c.Close()
	for {
		var size [4]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		frame := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(c, frame); err != nil {
			return
		}
		key, version := int16(binary.BigEndian.Uint16(frame)), int16(binary.BigEndian.Uint16(frame[2:]))
		correlation := frame[4:8]
		name := int(binary.BigEndian.Uint16(frame[8:]))
		body := frame[10+name:]
		req := kmsg.RequestForKey(key)
		req.SetVersion(version)
		if req.IsFlexible() {
			body = body[1:] // no tags
		}
		if err := req.ReadFrom(body); err != nil {
			f.t.Errorf("cannot read request %d v%d: %v", key, version, err)
			return
		}
		resp := f.answer(id, req)
		if resp == nil {
			continue
		}
		resp.SetVersion(version)
		out := append([]byte{0, 0, 0, 0}, correlation...)
		if req.IsFlexible() && key != 18 {
			out = append(out, 0)
		}
		out = resp.AppendTo(out)
		binary.BigEndian.PutUint32(out, uint32(len(out)-4))
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

func (f *fakeCluster) answer(id int32, req kmsg.Request) kmsg.Response {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = append(f.seen, kmsg.NameForKey(req.Key()))
	resp := req.ResponseKind()
	switch r := req.(type) {
	case *kmsg.ApiVersionsRequest:
		answerVersions(resp.(*kmsg.ApiVersionsResponse))
	case *kmsg.MetadataRequest:
		f.answerMetadata(r, resp.(*kmsg.MetadataResponse))
	case *kmsg.ListGroupsRequest:
		f.answerListGroups(id, resp.(*kmsg.ListGroupsResponse))
	case *kmsg.FindCoordinatorRequest:
		a := resp.(*kmsg.FindCoordinatorResponse)
		a.NodeID, a.Host, a.Port = f.coordinator(r.CoordinatorKey), fmt.Sprintf("b%d", f.coordinator(r.CoordinatorKey)), 9092
	case *kmsg.DescribeGroupsRequest:
		f.answerDescribeGroups(r, resp.(*kmsg.DescribeGroupsResponse))
	case *kmsg.OffsetFetchRequest:
		f.answerOffsetFetch(r, resp.(*kmsg.OffsetFetchResponse))
	case *kmsg.ListOffsetsRequest:
		f.answerListOffsets(r, resp.(*kmsg.ListOffsetsResponse))
	case *kmsg.DescribeLogDirsRequest:
		f.answerLogDirs(id, resp.(*kmsg.DescribeLogDirsResponse))
	case *kmsg.DescribeClusterRequest:
		f.answerCluster(r, resp.(*kmsg.DescribeClusterResponse))
	case *kmsg.DescribeQuorumRequest:
		f.answerQuorum(id, resp.(*kmsg.DescribeQuorumResponse))
	case *kmsg.DescribeConfigsRequest:
		f.answerConfigs(id, r, resp.(*kmsg.DescribeConfigsResponse))
	case *kmsg.ListPartitionReassignmentsRequest:
		answerMoves(resp.(*kmsg.ListPartitionReassignmentsResponse))
	default:
		f.t.Errorf("unexpected request %s", kmsg.NameForKey(req.Key()))
		return nil
	}
	if f.hook != nil {
		return f.hook(id, req, resp)
	}
	return resp
}

// answerVersions offers what Apache Kafka 2.7 does, and of later ones what tells of members and voters.
func answerVersions(a *kmsg.ApiVersionsResponse) {
	for key, last := range map[int16]int16{2: 5, 3: 9, 9: 7, 10: 3, 15: 5, 16: 4, 18: 3, 32: 4, 35: 2, 46: 0, 55: 2, 60: 2} {
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MaxVersion = key, last
		a.ApiKeys = append(a.ApiKeys, k)
	}
}

func (f *fakeCluster) answerMetadata(r *kmsg.MetadataRequest, a *kmsg.MetadataResponse) {
	cluster := "the-cluster"
	a.ClusterID, a.ControllerID = &cluster, 0
	for id := range f.brokers {
		b := kmsg.NewMetadataResponseBroker()
		b.NodeID, b.Host, b.Port = id, fmt.Sprintf("b%d", id), 9092
		a.Brokers = append(a.Brokers, b)
	}
	wanted := map[string]bool{}
	for _, t := range r.Topics {
		wanted[*t.Topic] = true
	}
	for name, n := range f.topics {
		if r.Topics != nil && !wanted[name] {
			continue
		}
		t := kmsg.NewMetadataResponseTopic()
		t.Topic = kmsg.StringPtr(name)
		t.IsInternal = strings.HasPrefix(name, "__")
		for id := range n {
			p := kmsg.NewMetadataResponseTopicPartition()
			p.Partition, p.Leader = id, id%f.brokers
			p.Replicas, p.ISR = []int32{id % f.brokers}, []int32{id % f.brokers}
			t.Partitions = append(t.Partitions, p)
		}
		a.Topics = append(a.Topics, t)
	}
}

func (f *fakeCluster) coordinator(group string) int32 { return int32(len(group)) % f.brokers }

func (f *fakeCluster) answerListGroups(id int32, a *kmsg.ListGroupsResponse) {
	for name := range f.commits {
		if f.coordinator(name) == id {
			g := kmsg.NewListGroupsResponseGroup()
			g.Group, g.ProtocolType, g.GroupState = name, "consumer", "Empty"
			if f.members[name] > 0 {
				g.GroupState = "Stable"
			}
			a.Groups = append(a.Groups, g)
		}
	}
}

func (f *fakeCluster) answerDescribeGroups(r *kmsg.DescribeGroupsRequest, a *kmsg.DescribeGroupsResponse) {
	for _, name := range r.Groups {
		g := kmsg.NewDescribeGroupsResponseGroup()
		g.Group, g.State, g.ProtocolType = name, "Empty", "consumer"
		for i := range f.members[name] {
			m := kmsg.NewDescribeGroupsResponseGroupMember()
			m.MemberID = fmt.Sprint(i)
			g.Members = append(g.Members, m)
			g.State = "Stable"
		}
		a.Groups = append(a.Groups, g)
	}
}

func (f *fakeCluster) answerOffsetFetch(r *kmsg.OffsetFetchRequest, a *kmsg.OffsetFetchResponse) {
	for name, offset := range f.commits[r.Group] {
		t := kmsg.NewOffsetFetchResponseTopic()
		t.Topic = name
		p := kmsg.NewOffsetFetchResponseTopicPartition()
		p.Offset = offset
		t.Partitions = append(t.Partitions, p)
		a.Topics = append(a.Topics, t)
	}
}

// answerListOffsets lets the log grow between any two looks, as a live one does.
func (f *fakeCluster) answerListOffsets(r *kmsg.ListOffsetsRequest, a *kmsg.ListOffsetsResponse) {
	for _, rt := range r.Topics {
		t := kmsg.NewListOffsetsResponseTopic()
		t.Topic = rt.Topic
		for _, rp := range rt.Partitions {
			p := kmsg.NewListOffsetsResponseTopicPartition()
			p.Partition = rp.Partition
			if p.Offset = 10; rp.Timestamp == -1 {
				p.Offset = f.ends + int64(rp.Partition)
			}
			t.Partitions = append(t.Partitions, p)
		}
		a.Topics = append(a.Topics, t)
	}
}

func (f *fakeCluster) answerLogDirs(id int32, a *kmsg.DescribeLogDirsResponse) {
	d, future := kmsg.NewDescribeLogDirsResponseDir(), kmsg.NewDescribeLogDirsResponseDir()
	d.Dir, future.Dir = "/data", "/future"
	for name := range f.topics {
		t := kmsg.NewDescribeLogDirsResponseDirTopic()
		t.Topic = name
		p := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
		p.Partition, p.Size = id, 1000
		t.Partitions = append(t.Partitions, p)
		d.Topics = append(d.Topics, t)
		p.Size, p.IsFuture = 77, true
		t.Partitions = []kmsg.DescribeLogDirsResponseDirTopicPartition{p}
		future.Topics = append(future.Topics, t)
	}
	broken := kmsg.NewDescribeLogDirsResponseDir()
	broken.Dir, broken.ErrorCode = "/broken", 56
	a.Dirs = append(a.Dirs, broken, d, future)
}

// order gives the requests seen, each name once per row of equal ones.
func (f *fakeCluster) order() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Compact(slices.DeleteFunc(slices.Clone(f.seen), func(s string) bool {
		return s == "ApiVersions" || s == "Metadata" || s == "FindCoordinator"
	}))
}
