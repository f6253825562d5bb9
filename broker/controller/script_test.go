package controller

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/golden"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/topic"
)

// memory is a Quorum that folds at once.
type memory struct {
	img   *metadata.Image
	batch []string // what was proposed, as text
	fail  error

	changed chan struct{}
}

func (m *memory) Image() *metadata.Image { return m.img }

func (m *memory) Leading() (bool, <-chan struct{}) { return true, m.changed }

func (m *memory) Propose(_ context.Context, records []metadata.Record) (uint64, error) {
	if m.fail != nil {
		return 0, m.fail
	}
	next, err := m.img.Fold(m.img.Index()+1, records)
	if err != nil {
		return 0, err
	}
	for _, r := range records {
		m.batch = append(m.batch, m.show(next, r))
	}
	m.img = next
	return next.Index(), nil
}

// show gives a record as one line of a script.
func (m *memory) show(next *metadata.Image, r metadata.Record) string {
	name := func(id topic.ID) string {
		if t := next.TopicByID(id); t != nil {
			return t.Name
		}
		return m.img.TopicByID(id).Name
	}
	switch r := r.(type) {
	case *metadata.TopicCreated:
		return fmt.Sprintf("+topic %s created=%d", r.Name, r.Created)
	case *metadata.TopicRemoved:
		return "-topic " + name(r.ID)
	case *metadata.PartitionCreated:
		return fmt.Sprintf("+partition %s-%d leader=%d replicas=%d isr=%d", name(r.Topic), r.Number, r.State.Leader, r.State.Replicas, r.State.ISR)
	case *metadata.ConfigSet:
		return fmt.Sprintf("+config %v %s=%s", r.Resource, r.Name, r.Value)
	case *metadata.ConfigRemoved:
		return fmt.Sprintf("-config %v %s", r.Resource, r.Name)
	case *metadata.BrokerRegistered:
		return fmt.Sprintf("+broker %d fenced=%v", r.Broker.ID, r.Broker.Fenced)
	case *metadata.LeadershipRenewed:
		return fmt.Sprintf("renewed %d", r.ID)
	case *metadata.BrokerLeaving:
		return fmt.Sprintf("leaving %d", r.ID)
	case *metadata.BrokerFenced:
		return fmt.Sprintf("fenced %d", r.ID)
	case *metadata.BrokerUnfenced:
		return fmt.Sprintf("unfenced %d", r.ID)
	case *metadata.PartitionChanged:
		p := &r.State
		line := fmt.Sprintf("=partition %s-%d leader=%d epoch=%d replicas=%d isr=%d", name(r.Topic), r.Number, p.Leader, p.LeaderEpoch, p.Replicas, p.ISR)
		for _, more := range []struct {
			name string
			ids  []metadata.BrokerID
		}{{"elr", p.ELR}, {"adding", p.Adding}, {"removing", p.Removing}} {
			if len(more.ids) > 0 {
				line += fmt.Sprintf(" %s=%d", more.name, more.ids)
			}
		}
		return line
	case *metadata.BrokerUnregistered:
		return fmt.Sprintf("-broker %d", r.ID)
	case *metadata.QuotaSet:
		return fmt.Sprintf("+quota %v %s=%v", r.Entity, r.Name, r.Value)
	case *metadata.QuotaRemoved:
		return fmt.Sprintf("-quota %v %s", r.Entity, r.Name)
	case *metadata.FeatureSet:
		return fmt.Sprintf("+feature %s=%d", r.Name, r.Level)
	case *metadata.ProducerBlock:
		return fmt.Sprintf("+producers %d+%d", r.First, r.Count)
	}
	return fmt.Sprintf("%T", r)
}

// stage is what one script plays on.
type stage struct {
	*memory
	c   *Controller
	now time.Time

	conn context.Context // by which a broker is heard
	hang func()
}

func newStage() *stage {
	s := &stage{memory: &memory{img: metadata.Empty(), changed: make(chan struct{})}, now: time.UnixMilli(1000)}
	s.with(nil)
	return s
}

// with gives the node other settings.
func (s *stage) with(over map[string]string) {
	v, err := config.Defaults().With(over)
	if err != nil {
		panic(err)
	}
	n := 0
	s.c = New(Options{Node: 1, Settings: v, Now: func() time.Time { return s.now }, Seed: 1, Features: []Feature{
		{Name: "always", Min: 7, Max: 7, Default: 7}, {Name: "later", Max: 1}, {Name: "new", Max: 2, Default: 2},
	}}, s)
	s.c.watch.start(s.now, s.img.Brokers())
	s.c.id = func() (id topic.ID) {
		n++
		copy(id[:], fmt.Sprintf("%016d", int(s.img.Index())*1000+n))
		return id
	}
}

// Commands of a script. The first line is the command with its flags; each
// further line is one item of the request: its name and key=value words.
//
//	node KEY=VALUE…            the node's configuration file
//	broker ID [rack=R] [fenced] [clean] [incarnation=X] [at=HOST]
//	create [validate]          items: NAME [partitions=N] [replicas=N] [assign=1,2/2,3] [SETTING=VALUE…]
//	grow [validate]            items: NAME count=N [assign=1,2/2,3]
//	delete                     items: NAME
//	alter [replace] [validate] items: KIND/NAME SETTING=VALUE… (also SETTING+=, SETTING-=, -SETTING)
//	elect [unclean]            items: TOPIC-N
//	reassign [fixed]           items: TOPIC-N [1,2]
//	quotas [validate]          items: [user=U] [client=C] [ip=A] (no name: the default) QUOTA=N… -QUOTA…
//	unregister ID
//	finalize                   gives the features always (7), later (0 to 1) and new (0 to 2) their default levels
//	features [validate]        items: NAME LEVEL [down|unsafe|KIND]
//	producers
//	fence|unfence ID [EPOCH]
//	isr BROKER                 items: TOPIC-N LEADEREPOCH PARTITIONEPOCH ID[@BROKEREPOCH],…
//	pass DURATION              time goes on
//	beat ID [seen=N] [stop] [fence] [epoch=N] [offline=TOPIC-N]
//	tie ID                     a connection by which it is heard; untie ID: it is gone
//	silent                     looks at the sessions
//	takeover                   another node becomes the active controller, or this one again
//	balance                    gives partitions back to their preferred leaders
func (s *stage) play(t *testing.T, input string) string {
	lines := strings.Split(strings.TrimSpace(input), "\n")
	s.batch = nil
	errs, ok := s.request(t, lines[0], lines[1:])
	if !ok {
		errs = s.around(t, strings.Fields(lines[0]))
	}
	var out strings.Builder
	for _, err := range errs {
		out.WriteString(outcome(err) + "\n")
	}
	if n := len(s.batch); n > 8 {
		s.batch = append(s.batch[:2:2], fmt.Sprintf("… %d records", n-2))
	}
	for _, r := range s.batch {
		out.WriteString("  " + r + "\n")
	}
	return out.String()
}

// request plays the commands that are client requests.
func (s *stage) request(t *testing.T, head string, items []string) (errs []error, ok bool) {
	validate := strings.Contains(head, " validate")
	ctx := t.Context()
	switch strings.Fields(head)[0] {
	case "create":
		var ts []NewTopic
		for _, item := range items {
			ts = append(ts, newTopic(item))
		}
		for _, made := range s.c.CreateTopics(ctx, ts, validate) {
			errs = append(errs, made.Err)
			if (made.Topic == nil) != (made.Err != nil) {
				t.Errorf("%s: topic %v with error %v", head, made.Topic, made.Err)
			}
		}
	case "grow":
		var gs []Growth
		for _, item := range items {
			gs = append(gs, growth(item))
		}
		errs = s.c.CreatePartitions(ctx, gs, validate)
	case "delete":
		var ids []topic.ID
		for _, name := range items {
			if found := s.img.Topic(name); found != nil {
				ids = append(ids, found.ID)
			} else {
				ids = append(ids, topic.ID{1})
			}
		}
		errs = s.c.DeleteTopics(ctx, ids)
	case "alter":
		var as []Alter
		for _, item := range items {
			as = append(as, alteration(item, strings.Contains(head, " replace")))
		}
		errs = s.c.AlterConfigs(ctx, as, validate)
	case "elect":
		var ps []topic.Partition
		for _, item := range items {
			ps = append(ps, partition(item))
		}
		errs = s.c.ElectLeaders(ctx, ps, strings.Contains(head, " unclean"))
	case "reassign":
		var rs []Reassignment
		for _, item := range items {
			words := strings.Fields(item)
			r := Reassignment{Partition: partition(words[0])}
			if len(words) > 1 {
				r.Replicas = append([]metadata.BrokerID{}, assignment(words[1])[0]...)
			}
			rs = append(rs, r)
		}
		errs = s.c.Reassign(ctx, rs, strings.Contains(head, " fixed"))
	case "isr":
		errs = s.alterISR(ctx, metadata.BrokerID(number(strings.Fields(head)[1])), items)
	case "quotas":
		var as []QuotaAlter
		for _, item := range items {
			as = append(as, quotaAlter(item))
		}
		errs = s.c.AlterQuotas(ctx, as, validate)
	case "features":
		var us []FeatureUpdate
		for _, item := range items {
			us = append(us, featureUpdate(item))
		}
		errs = s.c.UpdateFeatures(ctx, us, validate)
	default:
		return nil, false
	}
	return errs, true
}

// around plays the commands about the node and its brokers.
func (s *stage) around(t *testing.T, head []string) []error {
	ctx := t.Context()
	switch head[0] {
	case "node":
		over := make(map[string]string)
		for _, w := range head[1:] {
			k, v, _ := strings.Cut(w, "=")
			over[k] = v
		}
		s.with(over)
	case "broker":
		b := metadata.Broker{ID: metadata.BrokerID(number(head[1]))}
		fenced, clean := false, false
		for _, w := range head[2:] {
			fenced, clean = fenced || w == "fenced", clean || w == "clean"
			if inc, ok := strings.CutPrefix(w, "incarnation="); ok {
				copy(b.Incarnation[:], inc)
			}
			if at, ok := strings.CutPrefix(w, "at="); ok {
				b.Endpoints = []metadata.Endpoint{{Listener: "PLAINTEXT", Host: at, Port: 9092}}
			}
			if rack, ok := strings.CutPrefix(w, "rack="); ok {
				b.Rack = rack
			}
		}
		reg := Registration{Broker: b, Previous: NoEpoch}
		if old := s.img.Broker(b.ID); old != nil && clean {
			reg.Previous = old.Epoch
		}
		epoch, err := s.c.RegisterBroker(ctx, reg)
		if err == nil && !fenced {
			err = s.c.UnfenceBroker(ctx, b.ID, epoch)
		}
		return []error{err}
	case "fence":
		return []error{s.c.FenceBroker(ctx, metadata.BrokerID(number(head[1])), s.epoch(head))}
	case "unfence":
		return []error{s.c.UnfenceBroker(ctx, metadata.BrokerID(number(head[1])), s.epoch(head))}
	case "unregister":
		return []error{s.c.UnregisterBroker(ctx, metadata.BrokerID(number(head[1])))}
	case "finalize":
		return []error{s.c.FinalizeFeatures(ctx)}
	case "pass":
		by, err := time.ParseDuration(head[1])
		if err != nil {
			t.Fatal(err)
		}
		s.now = s.now.Add(by)
		return nil
	case "silent":
		s.c.fenceSilent(ctx)
		return nil
	case "takeover":
		s.c.watch.start(s.now, s.img.Brokers())
		return []error{s.c.tidy(ctx, func(*metadata.Partition) bool { return true })}
	case "balance":
		return []error{s.c.balance(ctx)}
	case "beat":
		return []error{s.beat(ctx, head[1:])}
	case "tie":
		id := metadata.BrokerID(number(head[1]))
		s.conn, s.hang = context.WithCancel(ctx)
		s.c.watch.tie(id, s.img.Broker(id).Epoch, s.conn)
		return nil
	case "untie":
		id := metadata.BrokerID(number(head[1]))
		s.hang()
		s.batch = append(s.batch, fmt.Sprintf("last=%v", s.c.watch.untie(id, s.img.Broker(id).Epoch, s.conn)))
		return nil
	case "producers":
		first, n, err := s.c.ProducerIDs(ctx)
		if n != producerBlock || first%producerBlock != 0 {
			t.Errorf("block %d+%d", first, n)
		}
		return []error{err}
	default:
		t.Fatalf("no command %q", head[0])
	}
	return nil
}

// epoch gives the epoch that a command names, else the broker's.
func (s *stage) epoch(head []string) int64 {
	if len(head) > 2 {
		return int64(number(head[2]))
	}
	return s.img.Broker(metadata.BrokerID(number(head[1]))).Epoch
}

// beat plays a heartbeat; what is answered goes into the batch.
func (s *stage) beat(ctx context.Context, words []string) error {
	h := Heartbeat{ID: metadata.BrokerID(number(words[0])), Seen: s.img.Index()}
	if b := s.img.Broker(h.ID); b != nil {
		h.Epoch = b.Epoch
	}
	for _, w := range words[1:] {
		k, v, _ := strings.Cut(w, "=")
		switch k {
		case "seen":
			h.Seen = uint64(number(v))
		case "epoch":
			h.Epoch = int64(number(v))
		case "stop":
			h.Shutdown = true
		case "fence":
			h.Fence = true
		case "offline":
			p := partition(v)
			h.Offline = append(h.Offline, Replica{s.img.Topic(p.Topic).ID, p.Partition})
		}
	}
	p, err := s.c.Heartbeat(ctx, h)
	if err == nil {
		s.batch = append(s.batch, fmt.Sprintf("pulse caught up=%v fenced=%v may stop=%v", p.CaughtUp, p.Fenced, p.MayStop))
	}
	return err
}

// alterISR plays a leader's proposals.
func (s *stage) alterISR(ctx context.Context, from metadata.BrokerID, items []string) (errs []error) {
	var changes []ISRChange
	for _, item := range items {
		words := strings.Fields(item)
		p := partition(words[0])
		c := ISRChange{Partition: p.Partition, LeaderEpoch: record.Epoch(number(words[1])), PartitionEpoch: int32(number(words[2]))}
		if t := s.img.Topic(p.Topic); t != nil {
			c.Topic = t.ID
		}
		for m := range strings.SplitSeq(words[3], ",") {
			id, epoch, given := strings.Cut(m, "@")
			member := Member{metadata.BrokerID(number(id)), NoEpoch}
			if given {
				member.Epoch = int64(number(epoch))
			}
			c.ISR = append(c.ISR, member)
		}
		changes = append(changes, c)
	}
	epoch := NoEpoch
	if b := s.img.Broker(from); b != nil {
		epoch = b.Epoch
	}
	done, err := s.c.AlterISR(ctx, from, epoch, changes)
	if err != nil {
		return []error{err}
	}
	for _, d := range done {
		errs = append(errs, d.Err)
	}
	return errs
}

func outcome(err error) string {
	names := map[int16]string{41: "NOT_CONTROLLER", 74: "FENCED_LEADER_EPOCH", 101: "DUPLICATE_BROKER_REGISTRATION",
		104: "INCONSISTENT_CLUSTER_ID", 106: "NEW_LEADER_ELECTED", 107: "INELIGIBLE_REPLICA", 3: "UNKNOWN_TOPIC_OR_PARTITION", 17: "INVALID_TOPIC_EXCEPTION", 36: "TOPIC_ALREADY_EXISTS",
		37: "INVALID_PARTITIONS", 38: "INVALID_REPLICATION_FACTOR", 39: "INVALID_REPLICA_ASSIGNMENT", 40: "INVALID_CONFIG",
		42: "INVALID_REQUEST", 44: "POLICY_VIOLATION", 60: "REASSIGNMENT_IN_PROGRESS", 77: "STALE_BROKER_EPOCH",
		80: "PREFERRED_LEADER_NOT_AVAILABLE", 83: "ELIGIBLE_LEADERS_NOT_AVAILABLE", 84: "ELECTION_NOT_NEEDED",
		85: "NO_REASSIGNMENT_IN_PROGRESS", 95: "INVALID_UPDATE_VERSION",
		100: "UNKNOWN_TOPIC_ID", 102: "BROKER_ID_NOT_REGISTERED"}
	var r *Refusal
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &r):
		return names[r.Code] + ": " + r.Message
	}
	return "trouble: " + err.Error()
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	return n
}

// assignment reads 1,2/2,3: the replicas of each partition.
func assignment(text string) (all [][]metadata.BrokerID) {
	for part := range strings.SplitSeq(text, "/") {
		var ids []metadata.BrokerID
		for id := range strings.SplitSeq(part, ",") {
			if id != "" {
				ids = append(ids, metadata.BrokerID(number(id)))
			}
		}
		all = append(all, ids)
	}
	return all
}

func newTopic(item string) NewTopic {
	words := strings.Fields(item)
	t := NewTopic{Name: strings.Trim(words[0], "'"), Partitions: -1, Replicas: -1, Configs: make(map[string]string)}
	for _, w := range words[1:] {
		k, v, _ := strings.Cut(w, "=")
		switch k {
		case "partitions":
			t.Partitions = int32(number(v))
		case "replicas":
			t.Replicas = int16(number(v))
		case "assign":
			t.Assignment = make(map[int32][]metadata.BrokerID)
			for n, ids := range assignment(v) {
				if len(ids) > 0 || !strings.HasPrefix(v, "/") {
					t.Assignment[int32(n)] = ids
				}
			}
		default:
			t.Configs[k] = v
		}
	}
	return t
}

func growth(item string) Growth {
	words := strings.Fields(item)
	g := Growth{Topic: words[0]}
	for _, w := range words[1:] {
		k, v, _ := strings.Cut(w, "=")
		switch k {
		case "count":
			g.Count = int32(number(v))
		case "assign":
			g.Assignment = assignment(v)
		}
	}
	return g
}

func alteration(item string, replace bool) Alter {
	words := strings.Fields(item)
	kind, name, _ := strings.Cut(words[0], "/")
	a := Alter{Resource: metadata.Resource{Kind: int8(number(kind)), Name: name}, Replace: replace}
	for _, w := range words[1:] {
		if name, ok := strings.CutPrefix(w, "-"); ok {
			a.Changes = append(a.Changes, Change{Name: name, Op: OpDelete})
			continue
		}
		k, v, given := strings.Cut(w, "=")
		c := Change{Name: k, Op: OpSet, Value: &v}
		if !given {
			c.Value = nil
		}
		if name, ok := strings.CutSuffix(k, "+"); ok {
			c.Name, c.Op = name, OpAppend
		} else if name, ok := strings.CutSuffix(k, "-"); ok {
			c.Name, c.Op = name, OpSubtract
		}
		a.Changes = append(a.Changes, c)
	}
	return a
}

// partition reads TOPIC-N.
func partition(text string) topic.Partition {
	at := strings.LastIndexByte(text, '-')
	return topic.Partition{Topic: text[:at], Partition: int32(number(text[at+1:]))}
}

func quotaAlter(item string) QuotaAlter {
	var a QuotaAlter
	parts := map[string]*metadata.QuotaName{"user": &a.Entity.User, "client": &a.Entity.Client, "ip": &a.Entity.IP}
	for _, w := range strings.Fields(item) {
		k, v, given := strings.Cut(w, "=")
		if n := parts[k]; n != nil {
			*n = metadata.QuotaName{Of: metadata.QuotaNamed, Name: v}
			if !given {
				n.Of = metadata.QuotaDefault
			}
			continue
		}
		if name, ok := strings.CutPrefix(k, "-"); ok {
			a.Changes = append(a.Changes, QuotaChange{Name: name, Remove: true})
			continue
		}
		value, err := strconv.ParseFloat(v, 64)
		if err != nil {
			panic(err)
		}
		a.Changes = append(a.Changes, QuotaChange{Name: k, Value: value})
	}
	return a
}

func featureUpdate(item string) FeatureUpdate {
	words := strings.Fields(item)
	u := FeatureUpdate{Name: words[0], Level: int16(number(words[1])), Kind: Upgrade}
	for _, w := range words[2:] {
		switch w {
		case "down":
			u.Kind = SafeDowngrade
		case "unsafe":
			u.Kind = UnsafeDowngrade
		default:
			u.Kind = int8(number(w))
		}
	}
	return u
}

// TestScripts plays testdata/*.txt: commands, a line of dashes, what they gave.
func TestScripts(t *testing.T) {
	golden.Scripts(t, "testdata/*.txt", func(t *testing.T, text string) string {
		s := newStage()
		var out []string
		for block := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
			if strings.HasPrefix(block, "#") {
				out = append(out, block)
				continue
			}
			input, _, _ := strings.Cut(block, "\n----")
			out = append(out, strings.TrimRight(input+"\n----\n"+s.play(t, input), "\n"))
		}
		return strings.Join(out, "\n\n") + "\n"
	})
}
