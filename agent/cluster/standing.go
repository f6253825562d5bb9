package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/stats"
)

// Standing is what decides whether a broker may be stopped: who is there, which replicas
// are in sync, who votes, what is on its way. Read only. Slices are sorted by ID or name.
type Standing struct {
	ClusterID  string
	Controller int32 // the active one; −1 when it is not known
	Members    []Member
	Topics     []Topic // their offsets are Unknown
	// MinInSync is min.insync.replicas by topic; one that could not be learnt is not in it.
	MinInSync map[string]MinInSync
	// NodeMin is the same setting of each broker that answered, for topics without one of
	// their own: the broker that leads goes by its own.
	NodeMin map[int32]int
	Voters  []Voter // on the metadata log; none where they are not known
	Moves   []Place // partitions that get other replicas now
	Failed  []FailedDir
	// Unknown tells what could not be learnt, and why, a line each. Empty: all was.
	Unknown []string
}

// Member is a registered broker.
type Member struct {
	Broker
	Fenced  bool  // out of service: it is down, or starting
	Leaving bool  // it is stopping; false where the cluster does not tell
	Epoch   int64 // another number is another start of its process; −1 where the cluster does not tell
}

// MinInSync is a topic's min.insync.replicas. Own tells that the topic has a value of its
// own, which holds wherever it is led.
type MinInSync struct {
	Value int
	Own   bool
}

// Voter is one that votes on the metadata log. Up tells that the leader heard it just now.
type Voter struct {
	ID int32
	Up bool
}

// Place is a partition.
type Place struct {
	Topic     string
	Partition int32
}

// FailedDir is a log directory that its broker took out of service.
type FailedDir struct {
	Broker int32
	Path   string
}

// Member finds a broker; ok is false if it is not registered.
func (s *Standing) Member(id int32) (m Member, ok bool) {
	at, ok := slices.BinarySearchFunc(s.Members, id, func(m Member, id int32) int { return cmp.Compare(m.ID, id) })
	if ok {
		m = s.Members[at]
	}
	return m, ok
}

func (s *Standing) unknown(format string, args ...any) {
	s.Unknown = append(s.Unknown, fmt.Sprintf(format, args...))
}

// Standing asks for it. What says who is in sync comes from the active controller where
// that is a broker, and so is no older than the call.
//
// Blocks: until ctx ends or the requests time out. Errors: ErrUnreachable and no Standing.
func (c *Client) Standing(ctx context.Context) (*Standing, error) {
	s := &Standing{Controller: -1}
	if err := c.members(ctx, s, c.kafka.Request); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	said := s.Controller
	s.Controller = -1
	if err := c.voters(ctx, s, said); err != nil {
		s.unknown("who votes on the metadata: %v", err)
	}
	from := c.kafka.Request
	if m, ok := s.Member(s.Controller); ok && !m.Fenced {
		from = c.kafka.Broker(int(m.ID)).RetriableRequest
		if err := c.members(ctx, s, from); err != nil {
			s.unknown("who is up, of the active controller: %v", err)
		}
	}
	if err := c.placements(ctx, s, from); err != nil {
		s.unknown("which replicas are in sync: %v", err)
	}
	if err := c.minInSync(ctx, s, from); err != nil {
		s.unknown("min.insync.replicas of the topics: %v", err)
	}
	if err := c.moves(ctx, s); err != nil {
		s.unknown("which partitions are being moved: %v", err)
	}
	c.eachMember(ctx, s)
	return s, nil
}

// ask is how one broker, or any, is asked.
type ask func(context.Context, kmsg.Request) (kmsg.Response, error)

func (c *Client) members(ctx context.Context, s *Standing, from ask) error {
	req := kmsg.NewPtrDescribeClusterRequest()
	req.EndpointType, req.IncludeFencedBrokers = 1, true
	req.UnknownTags.Set(stats.TagStanding, nil)
	got, err := from(ctx, req)
	if err != nil {
		return err
	}
	resp := got.(*kmsg.DescribeClusterResponse)
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return err
	}
	s.ClusterID, s.Members = resp.ClusterID, nil
	if s.Controller < 0 {
		s.Controller = resp.ControllerID
	}
	for i := range resp.Brokers {
		s.Members = append(s.Members, memberOf(&resp.Brokers[i]))
	}
	slices.SortFunc(s.Members, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return nil
}

func memberOf(b *kmsg.DescribeClusterResponseBroker) Member {
	m := Member{Broker: Broker{ID: b.NodeID, Host: b.Host, Port: b.Port}, Fenced: b.IsFenced, Epoch: -1}
	if b.Rack != nil {
		m.Rack = *b.Rack
	}
	b.UnknownTags.Each(func(tag uint32, v []byte) {
		if tag != stats.TagStanding {
			return
		}
		if told, err := stats.ReadStanding(v); err == nil {
			m.Epoch, m.Leaving = told.Epoch, told.Leaving
		}
	})
	return m
}

// voterSilence is how long the leader may not have heard a voter that counts as up.
// Why so long: followers of Apache Kafka fetch at least every half a second, ours are
// heard several times a second, and either may pause for a moment.
const voterSilence = 3 * time.Second

// voters asks one broker after the other until one of them leads the metadata log, the
// one that is said to be the controller first.
func (c *Client) voters(ctx context.Context, s *Standing, said int32) error {
	order := slices.Clone(s.Members)
	if at := slices.IndexFunc(order, func(m Member) bool { return m.ID == said }); at > 0 {
		order[0], order[at] = order[at], order[0]
	}
	last := errors.New("no broker is up")
	for _, m := range order {
		if m.Fenced {
			continue
		}
		req := kmsg.NewPtrDescribeQuorumRequest()
		t := kmsg.NewDescribeQuorumRequestTopic()
		t.Topic, t.Partitions = "__cluster_metadata", []kmsg.DescribeQuorumRequestTopicPartition{{Partition: 0}}
		req.Topics = append(req.Topics, t)
		got, err := c.kafka.Broker(int(m.ID)).RetriableRequest(ctx, req)
		if err == nil {
			err = s.readVoters(got.(*kmsg.DescribeQuorumResponse))
		}
		if err == nil {
			return nil
		}
		last = fmt.Errorf("broker %d: %w", m.ID, err)
	}
	return last
}

func (s *Standing) readVoters(resp *kmsg.DescribeQuorumResponse) error {
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return errors.New("it answers what was not asked")
	}
	p := &resp.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
		return err
	}
	now := int64(-1) // of the leader, which has heard itself just now
	for _, v := range p.CurrentVoters {
		if v.ReplicaID == p.LeaderID {
			now = v.LastFetchTimestamp
		}
	}
	s.Controller = p.LeaderID
	for _, v := range p.CurrentVoters {
		heard := v.LastFetchTimestamp >= 0 && now-v.LastFetchTimestamp <= voterSilence.Milliseconds()
		s.Voters = append(s.Voters, Voter{ID: v.ReplicaID, Up: v.ReplicaID == p.LeaderID || heard})
	}
	slices.SortFunc(s.Voters, func(a, b Voter) int { return cmp.Compare(a.ID, b.ID) })
	return nil
}

func (c *Client) placements(ctx context.Context, s *Standing, from ask) error {
	got, err := from(ctx, kmsg.NewPtrMetadataRequest()) // no topic named: all
	if err != nil {
		return err
	}
	resp := got.(*kmsg.MetadataResponse)
	for i := range resp.Topics {
		t := &resp.Topics[i]
		switch err := kerr.ErrorForCode(t.ErrorCode); {
		case t.Topic == nil:
			return errors.New("a topic has no name")
		case err != nil:
			s.unknown("where topic %q lies: %v", *t.Topic, err)
		default:
			s.Topics = append(s.Topics, topicOf(t))
		}
	}
	slices.SortFunc(s.Topics, func(a, b Topic) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

// minSetting is a setting of topics, and of brokers for topics that have none of their own.
const minSetting = "min.insync.replicas"

// topicsAtOnce bounds one question for settings.
const topicsAtOnce = 1000

func (c *Client) minInSync(ctx context.Context, s *Standing, from ask) error {
	s.MinInSync = make(map[string]MinInSync, len(s.Topics))
	for some := range slices.Chunk(s.Topics, topicsAtOnce) {
		req := kmsg.NewPtrDescribeConfigsRequest()
		for _, t := range some {
			req.Resources = append(req.Resources, minOf(kmsg.ConfigResourceTypeTopic, t.Name))
		}
		got, err := from(ctx, req)
		if err != nil {
			return err
		}
		for _, r := range got.(*kmsg.DescribeConfigsResponse).Resources {
			if v, own, ok := readMin(&r); ok {
				s.MinInSync[r.ResourceName] = MinInSync{v, own}
			}
		}
	}
	return nil
}

func minOf(kind kmsg.ConfigResourceType, name string) kmsg.DescribeConfigsRequestResource {
	r := kmsg.NewDescribeConfigsRequestResource()
	r.ResourceType, r.ResourceName, r.ConfigNames = kind, name, []string{minSetting}
	return r
}

func readMin(r *kmsg.DescribeConfigsResponseResource) (value int, own, ok bool) {
	if r.ErrorCode != 0 {
		return 0, false, false
	}
	for _, e := range r.Configs {
		if e.Name != minSetting || e.Value == nil {
			continue
		}
		n, err := strconv.Atoi(*e.Value)
		return n, e.Source == kmsg.ConfigSourceDynamicTopicConfig, err == nil
	}
	return 0, false, false
}

func (c *Client) moves(ctx context.Context, s *Standing) error {
	req := kmsg.NewPtrListPartitionReassignmentsRequest() // no topic named: all
	req.TimeoutMillis = int32(c.timeout / time.Millisecond)
	resp, err := req.RequestWith(ctx, c.kafka)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if len(p.AddingReplicas)+len(p.RemovingReplicas) > 0 {
				s.Moves = append(s.Moves, Place{t.Topic, p.Partition})
			}
		}
	}
	slices.SortFunc(s.Moves, func(a, b Place) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return nil
}

// eachMember asks every broker that is up what only it knows, all at the same time.
func (c *Client) eachMember(ctx context.Context, s *Standing) {
	s.NodeMin = make(map[int32]int, len(s.Members))
	var mu sync.Mutex
	var asked sync.WaitGroup
	for _, m := range s.Members {
		if m.Fenced {
			continue
		}
		asked.Go(func() {
			from := c.kafka.Broker(int(m.ID)).RetriableRequest
			failed, err := failedDirs(ctx, m.ID, from)
			least, merr := nodeMin(ctx, m.ID, from)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				s.unknown("the log directories of broker %d: %v", m.ID, err)
			}
			s.Failed = append(s.Failed, failed...)
			if merr != nil {
				s.unknown("%s of broker %d: %v", minSetting, m.ID, merr)
			} else {
				s.NodeMin[m.ID] = least
			}
		})
	}
	asked.Wait()
	slices.Sort(s.Unknown)
	slices.SortFunc(s.Failed, func(a, b FailedDir) int {
		return cmp.Or(cmp.Compare(a.Broker, b.Broker), strings.Compare(a.Path, b.Path))
	})
}

func failedDirs(ctx context.Context, id int32, from ask) (failed []FailedDir, err error) {
	req := kmsg.NewPtrDescribeLogDirsRequest()
	req.Topics = []kmsg.DescribeLogDirsRequestTopic{} // none: only the directories count
	got, err := from(ctx, req)
	if err != nil {
		return nil, err
	}
	resp := got.(*kmsg.DescribeLogDirsResponse)
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, err
	}
	for _, d := range resp.Dirs {
		if kerr.ErrorForCode(d.ErrorCode) != nil {
			failed = append(failed, FailedDir{id, d.Dir})
		}
	}
	return failed, nil
}

func nodeMin(ctx context.Context, id int32, from ask) (int, error) {
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.Resources = append(req.Resources, minOf(kmsg.ConfigResourceTypeBroker, strconv.Itoa(int(id))))
	got, err := from(ctx, req)
	if err != nil {
		return 0, err
	}
	for _, r := range got.(*kmsg.DescribeConfigsResponse).Resources {
		if n, _, ok := readMin(&r); ok {
			return n, nil
		}
		if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
			return 0, err
		}
	}
	return 0, errors.New("it does not tell")
}
