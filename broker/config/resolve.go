package config

import (
	"maps"
	"strconv"
)

// Source of one effective value; Kafka's numbers in DescribeConfigs.
type Source int8

// The sources, nearest first.
const (
	FromTopic          Source = 1
	FromDynamicBroker  Source = 2
	FromDynamicDefault Source = 3
	FromFile           Source = 4
	FromDefault        Source = 5
	FromLogger         Source = 6
	FromMetrics        Source = 7
	FromGroup          Source = 8
)

// Effective is one resolved setting with all layers that have a value for it, nearest first.
type Effective struct {
	Setting  Setting
	Value    string
	Source   Source
	Synonyms []Synonym
}

// Synonym is one layer's value under that layer's name, in that name's unit.
type Synonym struct {
	Name   string
	Value  string
	Source Source
}

// Layers are all places that a setting may come from. Nil maps are empty.
type Layers struct {
	File           *Values
	DynamicDefault map[string]string // of every broker
	DynamicBroker  map[string]string // of this one
	Own            map[string]string // of the topic, group or subscription itself
}

// Resolve gives every setting of a scope with its effective value. Own is what is set on
// the topic, group or subscription itself, nil for the broker's settings.
func Resolve(scope Scope, file *Values, dynDefault, dynBroker, own map[string]string) []Effective {
	l := Layers{file, dynDefault, dynBroker, own}
	var out []Effective
	for _, s := range table {
		if s.Scope&scope != 0 {
			out = append(out, l.Effective(s))
		}
	}
	return out
}

// Effective resolves one row.
func (l Layers) Effective(s Setting) Effective {
	e := Effective{Setting: s, Source: FromDefault}
	if !s.Owned() {
		e.add(l.node(s.Name), 1)
		return e
	}
	if text, ok := l.Own[s.Name]; ok {
		e.add([]Synonym{{s.Name, text, s.ownSource()}}, 1)
	}
	for _, f := range s.Follows {
		e.add(l.node(f.Name), f.Factor)
	}
	if len(s.Follows) == 0 && s.Default != "" {
		e.add([]Synonym{{s.Name, s.Default, FromDefault}}, 1)
	}
	return e
}

// add puts further layers below those there are; the nearest of all is what holds,
// multiplied by factor. The layers keep their own unit, as they stand under their own name.
func (e *Effective) add(more []Synonym, factor int64) {
	if len(e.Synonyms) == 0 && len(more) > 0 {
		e.Value, e.Source = more[0].Value, more[0].Source
		if factor != 1 {
			n, err := strconv.ParseInt(e.Value, 10, 64)
			checked(more[0].Name, err)
			e.Value = strconv.FormatInt(n*factor, 10)
		}
	}
	e.Synonyms = append(e.Synonyms, more...)
}

// ownSource is what clients are told about a value that is set on the thing itself.
func (s Setting) ownSource() Source {
	switch {
	case s.Scope&Group != 0:
		return FromGroup
	case s.Scope&Metrics != 0:
		return FromMetrics
	}
	return FromTopic
}

// node gives the layers of a node's setting.
func (l Layers) node(name string) []Synonym {
	var out []Synonym
	add := func(text string, from Source) { out = append(out, Synonym{name, text, from}) }
	if text, ok := l.DynamicBroker[name]; ok {
		add(text, FromDynamicBroker)
	}
	if text, ok := l.DynamicDefault[name]; ok {
		add(text, FromDynamicDefault)
	}
	if text, ok := l.File.Set(name); ok {
		add(text, FromFile)
	}
	if s, ok := Lookup(Node, name); ok && s.Default != "" {
		add(s.Default, FromDefault)
	}
	return out
}

// An acknowledgement out of the page cache is safe from so many replicas on, so many of
// which have to be in sync: a topic with fewer is flushed before every answer unless the
// user says otherwise.
const (
	flushAlwaysBelow       = 3
	flushAlwaysBelowInSync = 2
)

// TopicValues gives one topic's effective settings under the topic-level names. A setting
// that nobody gave and that has no default is the empty text, except that flush.messages
// becomes 1 with fewer than three replicas, or where one in sync is enough.
func TopicValues(file *Values, dynDefault, dynBroker, topicSet map[string]string, replicas int) *Values {
	set := map[string]string{}
	for _, e := range Resolve(Topic, file, dynDefault, dynBroker, topicSet) {
		set[e.Setting.Name] = e.Value
	}
	v := &Values{set: set, scope: Topic}
	if set["flush.messages"] == "" && (replicas < flushAlwaysBelow || v.Int("min.insync.replicas") < flushAlwaysBelowInSync) {
		set["flush.messages"] = "1"
	}
	return v
}

// GroupValues gives one group's effective settings under the group-level names.
func GroupValues(file *Values, dynDefault, dynBroker, groupSet map[string]string) *Values {
	return ownValues(Group, Resolve(Group, file, dynDefault, dynBroker, groupSet))
}

// MetricsValues gives the effective settings of one subscription to what clients measure.
func MetricsValues(set map[string]string) *Values {
	return ownValues(Metrics, Resolve(Metrics, Defaults(), nil, nil, set))
}

func ownValues(scope Scope, all []Effective) *Values {
	set := map[string]string{}
	for _, e := range all {
		set[e.Setting.Name] = e.Value
	}
	return &Values{set: set, scope: scope}
}

// NodeValues gives the broker's effective settings of now: the file's with the dynamic ones over it.
// Texts that do not pass their check are left out: they came in under an older table.
func NodeValues(file *Values, dynDefault, dynBroker map[string]string) *Values {
	set := maps.Clone(file.set)
	if set == nil {
		set = map[string]string{}
	}
	for _, layer := range []map[string]string{dynDefault, dynBroker} {
		for name, text := range layer {
			if s, ok := Lookup(Node, name); ok && s.Check(text) == nil {
				set[name] = text
			}
		}
	}
	return &Values{set: set, scope: Node | Agent}
}
