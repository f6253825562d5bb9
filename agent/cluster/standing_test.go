package cluster

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/stats"
)

// The fake's last broker leads the metadata log; one more is registered and out of service.

func (f *fakeCluster) answerCluster(r *kmsg.DescribeClusterRequest, a *kmsg.DescribeClusterResponse) {
	tagged := false
	r.UnknownTags.Each(func(tag uint32, _ []byte) { tagged = tagged || tag == stats.TagStanding })
	a.ClusterID, a.ControllerID = "the-cluster", 0
	for id := range f.brokers + 1 {
		b := kmsg.NewDescribeClusterResponseBroker()
		b.NodeID, b.Host, b.Port, b.IsFenced = id, fmt.Sprintf("b%d", id), 9092, id == f.brokers
		if tagged {
			b.UnknownTags.Set(stats.TagStanding, stats.Standing{Epoch: int64(100 + id), Leaving: id == 0}.Append(nil))
		}
		a.Brokers = append(a.Brokers, b)
	}
}

func (f *fakeCluster) answerQuorum(id int32, a *kmsg.DescribeQuorumResponse) {
	t, p := kmsg.NewDescribeQuorumResponseTopic(), kmsg.NewDescribeQuorumResponseTopicPartition()
	t.Topic, p.LeaderID = "__cluster_metadata", f.brokers-1
	if id != p.LeaderID {
		p.ErrorCode = kerr.NotLeaderForPartition.Code
	} else {
		for voter, silent := range []int64{500, 0, 4000} { // ms
			v := kmsg.NewDescribeQuorumResponseTopicPartitionReplicaState()
			v.ReplicaID, v.LastFetchTimestamp = int32(voter), 1_700_000_000_000-silent
			p.CurrentVoters = append(p.CurrentVoters, v)
		}
	}
	t.Partitions = append(t.Partitions, p)
	a.Topics = append(a.Topics, t)
}

// answerConfigs has min.insync.replicas 2 at broker 1, else 1; orders has 2 of its own.
func (f *fakeCluster) answerConfigs(id int32, r *kmsg.DescribeConfigsRequest, a *kmsg.DescribeConfigsResponse) {
	for _, want := range r.Resources {
		rr, c := kmsg.NewDescribeConfigsResponseResource(), kmsg.NewDescribeConfigsResponseResourceConfig()
		rr.ResourceType, rr.ResourceName = want.ResourceType, want.ResourceName
		value := "1"
		if c.Source = kmsg.ConfigSourceDefaultConfig; id == 1 {
			value, c.Source = "2", kmsg.ConfigSourceStaticBrokerConfig
		}
		switch {
		case want.ResourceName == "orders":
			value, c.Source = "2", kmsg.ConfigSourceDynamicTopicConfig
		case want.ResourceType == kmsg.ConfigResourceTypeBroker && want.ResourceName != strconv.Itoa(int(id)):
			rr.ErrorCode = kerr.InvalidRequest.Code
		}
		c.Name, c.Value = minSetting, &value
		if rr.ErrorCode == 0 {
			rr.Configs = append(rr.Configs, c)
		}
		a.Resources = append(a.Resources, rr)
	}
}

func answerMoves(a *kmsg.ListPartitionReassignmentsResponse) {
	t, p := kmsg.NewListPartitionReassignmentsResponseTopic(), kmsg.NewListPartitionReassignmentsResponseTopicPartition()
	t.Topic, p.Partition, p.AddingReplicas = "orders", 1, []int32{0}
	t.Partitions = append(t.Partitions, p)
	a.Topics = append(a.Topics, t)
}

func TestStanding(t *testing.T) {
	f := newFake()
	c := begin(t, f)
	s, err := c.Standing(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.ClusterID != "the-cluster" || s.Controller != 1 || len(s.Unknown) > 0 {
		t.Errorf("cluster %q, controller %d, unknown %q", s.ClusterID, s.Controller, s.Unknown)
	}
	if len(s.Members) != 3 || !s.Members[0].Leaving || s.Members[1].Leaving || s.Members[1].Epoch != 101 || !s.Members[2].Fenced {
		t.Errorf("members are %+v", s.Members)
	}
	if want := []Voter{{0, true}, {1, true}, {2, false}}; !slices.Equal(s.Voters, want) {
		t.Errorf("voters are %v", s.Voters)
	}
	if len(s.Topics) != 2 || s.Topics[1].Name != "orders" || len(s.Topics[1].Partitions) != 2 {
		t.Errorf("topics are %+v", s.Topics)
	}
	if s.MinInSync["orders"] != (MinInSync{2, true}) || s.MinInSync["__consumer_offsets"] != (MinInSync{2, false}) || s.NodeMin[0] != 1 || s.NodeMin[1] != 2 || len(s.NodeMin) != 2 {
		t.Errorf("min.insync.replicas are %v, of nodes %v", s.MinInSync, s.NodeMin)
	}
	if !slices.Equal(s.Moves, []Place{{"orders", 1}}) {
		t.Errorf("moves are %v", s.Moves)
	}
	if _, ok := s.Member(7); ok {
		t.Error("there is a broker 7")
	}
}

// TestStandingWithHoles: what fails is unknown, each by its name, and nothing else is.
func TestStandingWithHoles(t *testing.T) {
	for _, c := range []struct {
		want string
		fail func(broker int32, resp kmsg.Response)
	}{
		{"who votes on the metadata: broker 1", func(_ int32, resp kmsg.Response) {
			if r, ok := resp.(*kmsg.DescribeQuorumResponse); ok {
				r.ErrorCode = kerr.ClusterAuthorizationFailed.Code
			}
		}},
		{`where topic "orders" lies`, func(_ int32, resp kmsg.Response) {
			if r, ok := resp.(*kmsg.MetadataResponse); ok {
				for i := range r.Topics {
					if *r.Topics[i].Topic == "orders" {
						r.Topics[i].ErrorCode = kerr.TopicAuthorizationFailed.Code
					}
				}
			}
		}},
		{"which partitions are being moved", func(_ int32, resp kmsg.Response) {
			if r, ok := resp.(*kmsg.ListPartitionReassignmentsResponse); ok {
				r.ErrorCode = kerr.ClusterAuthorizationFailed.Code
			}
		}},
		{"the log directories of broker 0", func(broker int32, resp kmsg.Response) {
			if r, ok := resp.(*kmsg.DescribeLogDirsResponse); ok && broker == 0 {
				r.ErrorCode = kerr.ClusterAuthorizationFailed.Code
			}
		}},
		{"min.insync.replicas of broker 0", func(broker int32, resp kmsg.Response) {
			if r, ok := resp.(*kmsg.DescribeConfigsResponse); ok && broker == 0 {
				r.Resources[0].ErrorCode, r.Resources[0].Configs = kerr.ClusterAuthorizationFailed.Code, nil
			}
		}},
	} {
		t.Run(c.want, func(t *testing.T) {
			f := newFake()
			// DescribeLogDirs tells a failure of all since version 3.
			f.hook = func(broker int32, _ kmsg.Request, resp kmsg.Response) kmsg.Response {
				if r, ok := resp.(*kmsg.ApiVersionsResponse); ok {
					for i := range r.ApiKeys {
						if r.ApiKeys[i].ApiKey == 35 {
							r.ApiKeys[i].MaxVersion = 4
						}
					}
				}
				c.fail(broker, resp)
				return resp
			}
			client := begin(t, f)
			s, err := client.Standing(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(s.Unknown) != 1 || !strings.HasPrefix(s.Unknown[0], c.want) {
				t.Errorf("unknown is %q, want %s", s.Unknown, c.want)
			}
		})
	}
}

// TestStandingOfDirs: directories that their brokers took out of service are named.
func TestStandingOfDirs(t *testing.T) {
	s, err := begin(t, newFake()).Standing(t.Context())
	if err != nil || !slices.Equal(s.Failed, []FailedDir{{0, "/broken"}, {1, "/broken"}}) {
		t.Errorf("failed directories are %v, unknown %q, %v", s.Failed, s.Unknown, err)
	}
}
