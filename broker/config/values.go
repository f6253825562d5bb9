package config

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// Values are settings as texts over the table's defaults; immutable.
type Values struct {
	set   map[string]string
	scope Scope // where names are looked up
}

// Defaults gives Values in which nothing is set.
func Defaults() *Values { return &Values{scope: Node | Agent} }

// Load reads a YAML file. Nested maps and dotted names mean the same; lists become
// comma-separated texts.
//
// Errors: all that is wrong with the file, a line each: file:line, key, value, limit.
func Load(path string) (*Values, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read configuration %q: %w", path, err)
	}
	defer f.Close()
	return Read(f, path)
}

// Read is Load for text from anywhere; name stands in the errors.
func Read(r io.Reader, name string) (*Values, error) {
	var doc yaml.Node
	err := yaml.NewDecoder(r).Decode(&doc)
	if errors.Is(err, io.EOF) {
		return Defaults(), nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read configuration %q: %w", name, err)
	}
	rd := reader{name: name, set: map[string]string{}, line: map[string]int{}}
	if len(doc.Content) > 0 {
		rd.walk("", doc.Content[0])
	}
	v := &Values{set: rd.set, scope: Node | Agent}
	if len(rd.errs) == 0 {
		rd.errs = v.together(name)
	}
	return v, errors.Join(rd.errs...)
}

// maxDepth bounds nesting; the deepest name of the table has seven parts.
const maxDepth = 16

type reader struct {
	name string
	set  map[string]string
	line map[string]int
	errs []error
}

func (r *reader) fail(n *yaml.Node, format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf("%s:%d: %w", r.name, n.Line, fmt.Errorf(format, args...)))
}

func (r *reader) walk(prefix string, n *yaml.Node) {
	if strings.Count(prefix, ".") > maxDepth {
		r.fail(n, "maps are nested more than %d deep", maxDepth)
		return
	}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			name := strings.TrimPrefix(prefix+"."+key.Value, ".")
			r.walk(name, n.Content[i+1])
		}
	case yaml.SequenceNode:
		var parts []string
		for _, c := range n.Content {
			if c.Kind != yaml.ScalarNode {
				r.fail(c, "%s: a list holds plain values only", prefix)
				return
			}
			parts = append(parts, c.Value)
		}
		r.put(prefix, strings.Join(parts, ","), n)
	case yaml.ScalarNode:
		if n.Tag == "!!null" {
			if prefix != "" {
				r.fail(n, "%s has no value: give one or remove the line", prefix)
			}
			return
		}
		r.put(prefix, n.Value, n)
	default:
		r.fail(n, "%s: aliases are not read; write the value out", prefix)
	}
}

func (r *reader) put(name, text string, n *yaml.Node) {
	s, ok := Lookup(Node|Agent, name)
	if !ok {
		r.fail(n, "unknown setting %q%s", name, near(name))
		return
	}
	if first, dup := r.line[name]; dup {
		r.fail(n, "%s is set a second time; the first is at line %d", name, first)
		return
	}
	if err := s.Check(text); err != nil {
		r.fail(n, "%w", err)
		return
	}
	r.set[name], r.line[name] = text, n.Line
}

// near names a setting whose name is close to an unknown one.
func near(name string) string {
	best, dist := "", 4
	for _, s := range table {
		if s.Scope&(Node|Agent) == 0 {
			continue
		}
		if d := distance(name, s.Name); d < dist {
			best, dist = s.Name, d
		}
	}
	if best == "" {
		return "; `belfry config print` lists them all"
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		prev := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := prev
			if a[i] != b[j] {
				cost = 1 + min(prev, row[j], row[j+1])
			}
			prev, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

// together checks what one row cannot know.
func (v *Values) together(name string) []error {
	var errs []error
	if lo, hi := v.Int("group.min.session.timeout.ms"), v.Int("group.max.session.timeout.ms"); lo > hi {
		errs = append(errs, fmt.Errorf("%s: group.min.session.timeout.ms (%d) is above group.max.session.timeout.ms (%d)", name, lo, hi))
	}
	errs = append(errs, v.consumerLimits(name)...)
	if s, h := v.Int("broker.session.timeout.ms"), v.Int("broker.heartbeat.interval.ms"); s < 2*h {
		errs = append(errs, fmt.Errorf("%s: broker.session.timeout.ms (%d) is not at least twice broker.heartbeat.interval.ms (%d): one lost heartbeat would take a broker out of service", name, s, h))
	}
	if v.String("notify.email.smarthost") == "" && len(v.List("notify.email.to")) > 0 {
		errs = append(errs, fmt.Errorf("%s: notify.email.to is set without notify.email.smarthost: name the mail server as HOST:PORT", name))
	}
	errs = append(errs, v.meeting(name)...)
	if len(v.List("log.dirs")) == 0 {
		errs = append(errs, fmt.Errorf("%s: log.dirs names no directory", name))
	}
	return errs
}

// meeting checks where the agents of a cluster's nodes talk to each other.
func (v *Values) meeting(name string) []error {
	at := v.String("agent.cluster.listen")
	if at == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(at)
	if err != nil || host == "" {
		return []error{fmt.Errorf("%s: agent.cluster.listen is %q: want HOST:PORT, with this node's own address", name, at)}
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) && v.String("agent.cluster.secret") == "" {
		return []error{fmt.Errorf("%s: agent.cluster.listen is %q without agent.cluster.secret: set it to the same on all nodes, as whoever reaches the port could silence alarms", name, at)}
	}
	return nil
}

// consumerLimits checks that the times of groups of the consumer protocol fit together.
func (v *Values) consumerLimits(name string) (errs []error) {
	for _, what := range []string{"session.timeout.ms", "heartbeat.interval.ms"} {
		lo, at, hi := v.Int("group.consumer.min."+what), v.Int("group.consumer."+what), v.Int("group.consumer.max."+what)
		if at < lo || at > hi {
			errs = append(errs, fmt.Errorf("%s: group.consumer.%s (%d) is not between group.consumer.min.%s (%d) and group.consumer.max.%s (%d)", name, what, at, what, lo, what, hi))
		}
	}
	if s, h := v.Int("group.consumer.session.timeout.ms"), v.Int("group.consumer.heartbeat.interval.ms"); s <= h {
		errs = append(errs, fmt.Errorf("%s: group.consumer.session.timeout.ms (%d) is not above group.consumer.heartbeat.interval.ms (%d)", name, s, h))
	}
	return errs
}

// With lays other texts over these.
//
// Errors: an unknown name, a text that does not pass its row's check.
func (v *Values) With(over map[string]string) (*Values, error) {
	set := maps.Clone(v.set)
	if set == nil {
		set = map[string]string{}
	}
	for _, name := range slices.Sorted(maps.Keys(over)) {
		s, ok := Lookup(v.scope, name)
		if !ok {
			return nil, fmt.Errorf("unknown setting %q", name)
		}
		if err := s.Check(over[name]); err != nil {
			return nil, err
		}
		set[name] = over[name]
	}
	return &Values{set: set, scope: v.scope}, nil
}

// Set gives the text that was given for a name; false where the default holds.
func (v *Values) Set(name string) (string, bool) {
	if v == nil {
		return "", false
	}
	text, ok := v.set[name]
	return text, ok
}

// String gives the effective text. Numbers and lists have methods of their own below.
func (v *Values) String(name string) string {
	if text, ok := v.set[name]; ok {
		return text
	}
	return v.row(name).Default
}

func (v *Values) row(name string) Setting {
	s, ok := Lookup(v.scope, name)
	if !ok {
		panic("BUG: no setting " + name)
	}
	return s
}

// Has tells whether there is a text at all: set, or a default that is not empty.
func (v *Values) Has(name string) bool { return v.String(name) != "" }

// Int gives a whole number or a size in bytes; 0 where there is no text.
func (v *Values) Int(name string) int64 {
	text := v.String(name)
	if text == "" {
		return 0
	}
	if v.row(name).Kind == Size {
		n, err := parseSize(text)
		checked(name, err)
		return n
	}
	n, err := strconv.ParseInt(text, 10, 64)
	checked(name, err)
	return n
}

// Float gives a number.
func (v *Values) Float(name string) float64 {
	f, err := strconv.ParseFloat(v.String(name), 64)
	checked(name, err)
	return f
}

// Bool gives a switch.
func (v *Values) Bool(name string) bool { return v.String(name) == "true" }

// List gives the parts of a comma-separated text, without empty ones.
func (v *Values) List(name string) []string { return split(v.String(name)) }

// Duration gives a number by its row's unit, or a duration text. Numbers that do not fit
// (Kafka uses the largest long for "for ever") become the longest duration; negative ones stay negative.
func (v *Values) Duration(name string) time.Duration {
	s := v.row(name)
	if s.Kind == Duration {
		d, err := time.ParseDuration(v.String(name))
		checked(name, err)
		return d
	}
	unit := map[string]time.Duration{"ms": time.Millisecond, "minutes": time.Minute, "hours": time.Hour}[s.Unit]
	if unit == 0 {
		panic("BUG: " + name + " is not a time")
	}
	n := v.Int(name)
	if n > int64(maxDuration/unit) {
		return maxDuration
	}
	return time.Duration(n) * unit
}

const maxDuration = time.Duration(unlimited)

func checked(name string, err error) {
	if err != nil {
		panic(fmt.Sprintf("BUG: %s passed its check: %v", name, err))
	}
}
