package controller

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/metadata"
)

// Operations of a Change.
// Source: KIP-339.
const (
	OpSet      int8 = 0
	OpDelete   int8 = 1
	OpAppend   int8 = 2
	OpSubtract int8 = 3
)

// Change of one setting. Op: 0 set, 1 delete, 2 append, 3 subtract (Kafka's).
type Change struct {
	Name  string
	Op    int8
	Value *string
}

// Alter changes a resource's dynamic settings. replace=true: AlterConfigs (all others are removed).
type Alter struct {
	Resource metadata.Resource
	Changes  []Change
	Replace  bool
}

// AlterConfigs changes dynamic settings, of each resource all or nothing; errors by position.
func (c *Controller) AlterConfigs(ctx context.Context, as []Alter, validateOnly bool) []error {
	d, end, err := c.begin(ctx)
	if err != nil {
		return same(len(as), err)
	}
	defer end()
	wishes := d.alterConfigs(as)
	if !validateOnly {
		c.commit(ctx, wishes)
	}
	return errorsOf(wishes)
}

func (d *decision) alterConfigs(as []Alter) []wish {
	wishes := make([]wish, len(as))
	times := make(map[metadata.Resource]int)
	for _, a := range as {
		times[a.Resource]++
	}
	for i, a := range as {
		if times[a.Resource] > 1 {
			wishes[i].err = refuse(codeInvalidRequest, "%v stands %d times in the request; name it once", a.Resource, times[a.Resource])
			continue
		}
		wishes[i].records, wishes[i].err = d.alter(a)
		wishes[i].records = append(d.forgetELR(a.Resource, wishes[i].records), wishes[i].records...)
	}
	return wishes
}

// forgetELR gives what has to change with min.insync.replicas: who left the ISR when it
// was another number may miss what is acknowledged from now on (KIP-966). A partition
// that nobody leads acknowledges nothing.
func (d *decision) forgetELR(r metadata.Resource, changes []metadata.Record) (records []metadata.Record) {
	isMin := func(r metadata.Record) bool {
		set, ok := r.(*metadata.ConfigSet)
		removed, gone := r.(*metadata.ConfigRemoved)
		return ok && set.Name == minInSync || gone && removed.Name == minInSync
	}
	if !slices.ContainsFunc(changes, isMin) {
		return nil
	}
	for _, t := range d.img.Topics() {
		if r.Kind == metadata.TopicResource && t.Name != r.Name {
			continue
		}
		for n := range t.Partitions {
			at := place{t.ID, int32(n)}
			if p := t.Partitions[n]; len(p.ELR) > 0 && p.Leader != metadata.NoBroker && !d.forgot[at] {
				p.ELR = nil
				p.PartitionEpoch++
				records = append(records, &metadata.PartitionChanged{Topic: t.ID, Number: at.number, State: p})
				if d.forgot == nil {
					d.forgot = make(map[place]bool)
				}
				d.forgot[at] = true // Why: another resource of the request may ask for the same
			}
		}
	}
	return records
}

// alter decides on one resource.
func (d *decision) alter(a Alter) ([]metadata.Record, error) {
	scope, err := d.scope(a.Resource)
	if err != nil {
		return nil, err
	}
	old := d.img.Config(a.Resource)
	next := make(map[string]string)
	if !a.Replace {
		maps.Copy(next, old)
	}
	for i, c := range a.Changes {
		if slices.ContainsFunc(a.Changes[:i], func(b Change) bool { return b.Name == c.Name }) {
			return nil, refuse(codeInvalidRequest, "setting %q of %v stands in the request more than once; name it once", c.Name, a.Resource)
		}
		if err := d.change(scope, a, c, next); err != nil {
			return nil, err
		}
	}
	if scope == config.Group {
		if err := d.checkGroup(a.Resource, next); err != nil {
			return nil, err
		}
	}
	var records []metadata.Record
	for _, name := range slices.Sorted(maps.Keys(old)) {
		if _, kept := next[name]; !kept {
			records = append(records, &metadata.ConfigRemoved{Resource: a.Resource, Name: name})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(next)) {
		if was, ok := old[name]; !ok || was != next[name] {
			records = append(records, &metadata.ConfigSet{Resource: a.Resource, Name: name, Value: next[name]})
		}
	}
	return records, nil
}

// scope tells which part of the table holds a resource's settings, and whether
// there is such a resource.
func (d *decision) scope(r metadata.Resource) (config.Scope, error) {
	switch r.Kind {
	case metadata.TopicResource:
		if d.img.Topic(r.Name) == nil {
			return 0, refuse(codeUnknownTopicOrPartition, "there is no topic %q", r.Name)
		}
		return config.Topic, nil
	case metadata.BrokerResource:
		if r.Name == "" {
			return config.Node, nil
		}
		id, err := strconv.ParseInt(r.Name, 10, 32)
		if err != nil || id < 0 || strconv.FormatInt(id, 10) != r.Name {
			return 0, refuse(codeInvalidRequest, "%q is no broker ID; want a number, or nothing for every broker", r.Name)
		}
		if d.img.Broker(metadata.BrokerID(id)) == nil {
			return 0, refuse(codeBrokerIDNotRegistered, "broker %d is not registered; registered are %v", id, d.brokerIDs())
		}
		return config.Node, nil
	case metadata.GroupResource:
		if r.Name == "" {
			return 0, refuse(codeInvalidRequest, "a group's settings need the group's name")
		}
		return config.Group, d.mayHave(r, maxGroupsWithSettings)
	case metadata.ClientMetricsResource:
		if r.Name == "" {
			return 0, refuse(codeInvalidRequest, "a subscription to client metrics needs a name")
		}
		return config.Metrics, d.mayHave(r, maxSubscriptions)
	}
	return 0, refuse(codeInvalidRequest, "settings of %v cannot be changed; topics (%d), brokers (%d), client metrics (%d) and groups (%d) have settings",
		r, metadata.TopicResource, metadata.BrokerResource, metadata.ClientMetricsResource, metadata.GroupResource)
}

// How many resources that exist only by their settings may have some.
const (
	maxGroupsWithSettings = 10_000
	maxSubscriptions      = 100 // each is looked at for every client that asks
)

// mayHave tells whether there is room for the settings of one more resource.
func (d *decision) mayHave(r metadata.Resource, limit int) error {
	if d.img.Config(r) == nil && len(d.img.Configured(r.Kind)) >= limit {
		return refuse(codePolicyViolation, "%d of its kind have settings already, the most there may be; %v cannot have any", limit, r)
	}
	return nil
}

// change applies one change to the settings that a resource will have.
func (d *decision) change(scope config.Scope, a Alter, c Change, next map[string]string) error {
	op := c.Op
	if a.Replace {
		op = OpSet
	}
	if op == OpDelete {
		// Why unchecked: what an older table let in must be removable.
		if _, set := next[c.Name]; set {
			delete(next, c.Name)
			return nil
		}
		// Why not refused: tools take back settings that they may never have made, and that
		// some servers have and others have not, as the throttles of a reassignment.
		if _, known := config.Lookup(scope, c.Name); !known {
			return nil
		}
		_, err := lookup(scope, a.Resource, c.Name)
		return err
	}
	s, err := lookup(scope, a.Resource, c.Name)
	if err != nil {
		return err
	}
	if c.Value == nil {
		return refuse(codeInvalidRequest, "setting %q of %v comes without a value; give one, or delete the setting", c.Name, a.Resource)
	}
	value := *c.Value
	switch op {
	case OpSet:
	case OpAppend, OpSubtract:
		if s.Kind != config.List {
			return refuse(codeInvalidConfig, "setting %q of %v is not a list: nothing can be appended or subtracted; set it", c.Name, a.Resource)
		}
		value = combine(d.effective(s, a.Resource, next), value, op)
	default:
		return refuse(codeInvalidRequest, "setting %q of %v: operation %d is unknown; want 0 set, 1 delete, 2 append or 3 subtract", c.Name, a.Resource, c.Op)
	}
	if err := checkSetting(scope, a.Resource, c.Name, value); err != nil {
		return err
	}
	if err := d.bounded(a.Resource, c.Name, value); err != nil {
		return err
	}
	next[c.Name] = value
	return nil
}

// lookup finds a setting that may be changed at run time.
func lookup(scope config.Scope, r metadata.Resource, name string) (config.Setting, error) {
	s, ok := config.Lookup(scope, name)
	if !ok {
		return s, refuse(codeInvalidConfig, "%v has no setting %q; see `belfry config print` for those there are", r, name)
	}
	if !s.Dynamic {
		return s, refuse(codeInvalidRequest, "setting %q cannot be changed at run time; set it in the node's configuration file and restart the node", name)
	}
	return s, nil
}

// groupLimits are the node's settings that bound a group's.
// Source: Kafka, GroupConfig.
var groupLimits = map[string][2]string{
	"consumer.session.timeout.ms":    {"group.consumer.min.session.timeout.ms", "group.consumer.max.session.timeout.ms"},
	"consumer.heartbeat.interval.ms": {"group.consumer.min.heartbeat.interval.ms", "group.consumer.max.heartbeat.interval.ms"},
}

// bounded tells whether a group's setting keeps to the node's limits.
func (d *decision) bounded(r metadata.Resource, name, value string) error {
	limits, ok := groupLimits[name]
	if !ok || r.Kind != metadata.GroupResource {
		return nil
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		panic("BUG: " + name + " passed its check: " + err.Error())
	}
	if v := d.settings(); n < v.Int(limits[0]) || n > v.Int(limits[1]) {
		return refuse(codeInvalidConfig, "%v: cannot set %s to %q: want at least %d (%s) and at most %d (%s)", r, name, value, v.Int(limits[0]), limits[0], v.Int(limits[1]), limits[1])
	}
	return nil
}

// checkSetting tells what is wrong with a setting's value.
func checkSetting(scope config.Scope, r metadata.Resource, name, value string) error {
	s, err := lookup(scope, r, name)
	if err != nil {
		return err
	}
	if err := s.Check(value); err != nil {
		return refuse(codeInvalidConfig, "%v: %v", r, err)
	}
	return nil
}

// checkGroup holds a group's settings to each other.
func (d *decision) checkGroup(r metadata.Resource, next map[string]string) error {
	own := config.GroupValues(d.settings(), nil, nil, next)
	if s, h := own.Int("consumer.session.timeout.ms"), own.Int("consumer.heartbeat.interval.ms"); s <= h {
		return refuse(codeInvalidConfig, "%v: consumer.session.timeout.ms (%d) has to be above consumer.heartbeat.interval.ms (%d)", r, s, h)
	}
	return nil
}

// effective is the value that appending starts from.
func (d *decision) effective(s config.Setting, r metadata.Resource, next map[string]string) string {
	layers := config.Layers{
		File:           d.file,
		DynamicDefault: d.img.Config(metadata.Resource{Kind: metadata.BrokerResource}),
	}
	switch {
	case r.Kind == metadata.TopicResource:
		layers.DynamicBroker = d.img.Config(metadata.Resource{Kind: metadata.BrokerResource, Name: strconv.Itoa(int(d.node))})
		layers.Own = next
	case r.Kind == metadata.GroupResource || r.Kind == metadata.ClientMetricsResource:
		layers.Own = next
	case r.Name == "":
		layers.DynamicDefault = next
	default:
		layers.DynamicBroker = next
	}
	return layers.Effective(s).Value
}

// combine appends the items of more to a list, or takes them out.
func combine(list, more string, op int8) string {
	items := func(text string) []string {
		return slices.DeleteFunc(strings.Split(strings.ReplaceAll(text, " ", ""), ","), func(s string) bool { return s == "" })
	}
	have := items(list)
	for _, item := range items(more) {
		at := slices.Index(have, item)
		switch {
		case op == OpAppend && at < 0:
			have = append(have, item)
		case op == OpSubtract && at >= 0:
			have = slices.Delete(have, at, at+1)
		}
	}
	return strings.Join(have, ",")
}
