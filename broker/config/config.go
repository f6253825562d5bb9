// Package config holds every setting in one table.
package config

import "time"

// Scope says what a setting belongs to.
type Scope uint8

const (
	Node  Scope = 1 << iota // in the node's file; Kafka's broker settings and our own
	Topic                   // a topic-level setting
	Agent                   // the agent's, also without a broker
)

// Setting is one row of the table.
type Setting struct {
	Name      string // Kafka's name where Kafka has one; ours otherwise ("agent.period", "storage.capacity", ...)
	Scope     Scope
	Kind      Kind
	Unit      string   // "bytes", "ms", "hours", "" ...
	Default   string   // as text
	Min, Max  int64    // for numbers; Min==Max==0: unbounded
	Values    []string // for enumerations
	Dynamic   bool     // may change at run time (AlterConfigs on the broker or "" default resource)
	Sensitive bool
	Follows   string // topic settings: the broker setting whose value is the default (log.retention.ms for retention.ms ...)
	Help      string // one sentence
}

// Kind is a setting's type, as DescribeConfigs wants it.
type Kind int8

const (
	Bool Kind = 1 + iota
	String
	Int
	Short
	Long
	Double
	List
	Class
	Password
)

// Table gives all settings sorted by name. Read only.
func Table() []Setting { panic("BUG: unbuilt") }

// Lookup finds one row.
func Lookup(scope Scope, name string) (Setting, bool) { panic("BUG: unbuilt") }

// Check tells what is wrong with a value: names value, limit, remedy.
func (s Setting) Check(value string) error { panic("BUG: unbuilt") }

// Values are settings as text over the defaults; immutable. Layers: default < file < dynamic default broker < dynamic broker < topic.
type Values struct{}

// Load reads a YAML file (nested maps and dotted names are the same); unknown keys, wrong types and limits are errors with file:line.
func Load(path string) (*Values, error) { panic("BUG: unbuilt") }
func Defaults() *Values                 { panic("BUG: unbuilt") }

// With lays other texts over these.
func (v *Values) With(over map[string]string) (*Values, error) { panic("BUG: unbuilt") }

// Set tells whether the name was given (not default) and its text.
func (v *Values) Set(name string) (string, bool)     { panic("BUG: unbuilt") }
func (v *Values) String(name string) string          { panic("BUG: unbuilt") }
func (v *Values) Int(name string) int64              { panic("BUG: unbuilt") }
func (v *Values) Float(name string) float64          { panic("BUG: unbuilt") }
func (v *Values) Bool(name string) bool              { panic("BUG: unbuilt") }
func (v *Values) List(name string) []string          { panic("BUG: unbuilt") }
func (v *Values) Duration(name string) time.Duration { panic("BUG: unbuilt") } // by the row's unit

// Source of one effective value, with Kafka's DescribeConfigs numbers.
type Source int8

const (
	FromTopic          Source = 1
	FromDynamicBroker  Source = 2
	FromDynamicDefault Source = 3
	FromFile           Source = 4
	FromDefault        Source = 5
)

// Effective is one resolved setting with the layers it hides (synonyms).
type Effective struct {
	Setting  Setting
	Value    string
	Source   Source
	Synonyms []Synonym
}

// Synonym is one layer's value.
type Synonym struct {
	Name   string
	Value  string
	Source Source
}

// Resolve gives every setting of a scope with its effective value. topicSet is nil for the broker's own.
func Resolve(scope Scope, file *Values, dynDefault, dynBroker, topicSet map[string]string) []Effective {
	panic("BUG: unbuilt")
}

// TopicValues gives one topic's effective settings as Values under the topic-level names ("retention.ms").
// "flush.messages" comes out as 1 when nobody set it and replicas < 3 (R17).
func TopicValues(file *Values, dynDefault, dynBroker, topicSet map[string]string, replicas int) *Values {
	panic("BUG: unbuilt")
}
