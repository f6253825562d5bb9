package rules

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

const (
	maxFile    = 4 << 20 // bytes of one rule file
	maxRules   = 1000    // rules in all; each costs a pass over its metric's series every period
	maxPeriods = 1440    // for and for_ok: a day of minutes
	maxText    = 1024    // bytes of summary and advice: an SMS cannot carry more anyway
	maxPeriod  = 24 * time.Hour
	maxRepeat  = 365 * 24 * time.Hour
)

// Parse reads one rule file. A rule that has the name of one in base changes
// that rule: what the file does not say stays as it is in base. What a rule
// needs of the outside (metric, limits, receivers) is left to Check.
//
// Errors: all that are in the file, joined, each with FILE:LINE, the value and
// the limit.
func Parse(file string, data []byte, base []Rule) ([]Rule, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: %d bytes exceed the limit of %d", file, len(data), maxFile)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("%s: is not YAML: %w", file, err)
	}
	if len(doc.Content) == 0 {
		return nil, nil // an empty file has no rules
	}
	p := &parser{file: file, base: map[string]Rule{}, seen: map[string]int{}}
	for _, r := range base {
		p.base[r.Name] = r
	}
	found := p.document(doc.Content[0])
	return found, errors.Join(p.errs...)
}

// ParseFile is Parse of a file on the disk.
func ParseFile(path string, base []Rule) ([]Rule, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read rule file %q: %w", path, err)
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s: %d bytes exceed the limit of %d", path, info.Size(), maxFile)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read rule file %q: %w", path, err)
	}
	return Parse(path, data, base)
}

type parser struct {
	file string
	base map[string]Rule
	seen map[string]int // name → line
	errs []error
}

func (p *parser) errorf(n *yaml.Node, format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf("%s:%d: %s", p.file, n.Line, fmt.Sprintf(format, args...)))
}

func (p *parser) document(n *yaml.Node) []Rule {
	if n.Kind != yaml.MappingNode {
		p.errorf(n, "a rule file is a mapping with the key rules")
		return nil
	}
	var found []Rule
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case key.Value != "rules":
			p.errorf(key, "unknown key %q; the only one is rules", key.Value)
		case value.Kind != yaml.SequenceNode:
			p.errorf(value, "rules is a list")
		case len(value.Content) > maxRules:
			p.errorf(value, "%d rules exceed the limit of %d", len(value.Content), maxRules)
		default:
			for _, item := range value.Content {
				if r, ok := p.rule(item); ok {
					found = append(found, r)
				}
			}
		}
	}
	return found
}

var nameForm = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_-]{0,99}$`)

// rule reads one list item: the name first, because it says what to start from.
func (p *parser) rule(n *yaml.Node) (Rule, bool) {
	before := len(p.errs)
	if n.Kind != yaml.MappingNode {
		p.errorf(n, "a rule is a mapping")
		return Rule{}, false
	}
	keys := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if keys[key.Value] != nil {
			p.errorf(key, "key %q is there twice", key.Value)
		}
		keys[key.Value] = n.Content[i+1]
	}
	name := ""
	if v := keys["name"]; v != nil && v.Kind == yaml.ScalarNode {
		name = v.Value
	}
	if !nameForm.MatchString(name) {
		p.errorf(n, "name %q: a rule needs a name of 1 to 100 letters, digits, _ and -, a letter first", name)
		return Rule{}, false
	}
	if line, twice := p.seen[name]; twice {
		p.errorf(n, "rule %q is already on line %d", name, line)
	}
	p.seen[name] = n.Line
	r, changes := p.base[name]
	if !changes {
		r = Rule{
			Name: name, Aggregation: Raw, For: 1, ForOK: 1, Severity: Major, Enabled: true,
			Repeat: 24 * time.Hour, NotifyOn: []Change{OnAlarm, OnOK},
		}
	}
	r.Source = fmt.Sprintf("%s:%d", p.file, n.Line)
	for i := 0; i+1 < len(n.Content); i += 2 {
		p.field(&r, n.Content[i], n.Content[i+1])
	}
	p.complete(&r, n)
	return r, len(p.errs) == before
}

// complete says what a rule lacks.
func (p *parser) complete(r *Rule, n *yaml.Node) {
	switch {
	case r.Watchdog && (r.Metric != "" || r.Condition.Comparison != "" || len(r.Match) > 0):
		p.errorf(n, "rule %q: a watchdog fires always and takes no metric, match or condition", r.Name)
	case r.Watchdog:
	case r.Metric == "":
		p.errorf(n, "rule %q has no metric", r.Name)
	case r.Condition.Comparison == "":
		p.errorf(n, "rule %q has no condition", r.Name)
	}
}

// field sets one field. Every refusal names rule, key, value and limit.
func (p *parser) field(r *Rule, key, v *yaml.Node) {
	if key.Value == "notify_on" || key.Value == "receivers" {
		p.listField(r, key, v)
		return
	}
	if v.Kind != yaml.ScalarNode {
		p.errorf(v, "rule %q: %s wants one value", r.Name, key.Value)
		return
	}
	var err error
	switch key.Value {
	case "name":
	case "summary":
		r.Summary, err = text(v.Value)
	case "metric":
		r.Metric = v.Value
	case "match":
		r.Match, err = parseMatch(v.Value)
	case "aggregation":
		r.Aggregation, err = oneOf(v.Value, Raw, Avg, Max, Min, Sum, Increase)
	case "condition":
		r.Condition, err = parseCondition(v.Value)
	case "period":
		r.Period, err = parseDuration(v.Value, time.Second, maxPeriod)
	case "for":
		r.For, err = parseCount(v.Value)
	case "for_ok":
		r.ForOK, err = parseCount(v.Value)
	case "severity":
		r.Severity, err = oneOf(v.Value, Severities()...)
	case "advice":
		r.Advice, err = text(v.Value)
	case "window":
		r.Window, err = parseWindow(v.Value)
	case "repeat":
		r.Repeat, err = parseRepeat(v.Value)
	case "watchdog":
		r.Watchdog, err = parseBool(v.Value)
	case "enabled":
		r.Enabled, err = parseBool(v.Value)
	default:
		p.errorf(key, "rule %q: unknown key %q", r.Name, key.Value)
	}
	if err != nil {
		p.errorf(v, "rule %q: %s %q %v", r.Name, key.Value, v.Value, err)
	}
}

func (p *parser) listField(r *Rule, key, v *yaml.Node) {
	items := v.Content
	if v.Kind == yaml.ScalarNode {
		items = []*yaml.Node{v} // one value needs no brackets
	} else if v.Kind != yaml.SequenceNode {
		p.errorf(v, "rule %q: %s wants a list", r.Name, key.Value)
		return
	}
	if key.Value == "receivers" {
		r.Receivers = nil
		for _, item := range items {
			r.Receivers = append(r.Receivers, item.Value)
		}
		return
	}
	r.NotifyOn = nil
	for _, item := range items {
		change, err := oneOf(item.Value, OnAlarm, OnOK)
		if err != nil {
			p.errorf(item, "rule %q: notify_on %q %v", r.Name, item.Value, err)
			continue
		}
		r.NotifyOn = append(r.NotifyOn, change)
	}
}

func text(s string) (string, error) {
	if len(s) > maxText {
		return "", fmt.Errorf("has %d bytes, the limit is %d", len(s), maxText)
	}
	return strings.Join(strings.Fields(s), " "), nil
}

func oneOf[T ~string](s string, all ...T) (T, error) {
	names := make([]string, len(all))
	for i, one := range all {
		if s == string(one) {
			return one, nil
		}
		names[i] = string(one)
	}
	return "", fmt.Errorf("is none of %s", strings.Join(names, ", "))
}

func parseBool(s string) (bool, error) {
	switch s {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, errors.New("is neither true nor false")
}

func parseCount(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxPeriods {
		return 0, fmt.Errorf("is not a number of periods from 1 to %d", maxPeriods)
	}
	return n, nil
}

// parseDuration reads Go's form and whole days ("1d").
func parseDuration(s string, least, most time.Duration) (time.Duration, error) {
	var d time.Duration
	var err error
	if days, isDays := strings.CutSuffix(s, "d"); isDays {
		var n int
		n, err = strconv.Atoi(days)
		d = time.Duration(n) * 24 * time.Hour
		if n > 36_500 {
			err = strconv.ErrRange
		}
	} else {
		d, err = time.ParseDuration(s)
	}
	if err != nil || d < least || d > most {
		return 0, fmt.Errorf("is not a duration like 30s, 5m, 2h or 1d from %v to %v", least, most)
	}
	return d, nil
}

func parseRepeat(s string) (time.Duration, error) {
	if s == "0" || s == "once" {
		return 0, nil
	}
	return parseDuration(s, time.Second, maxRepeat)
}

var windowForm = regexp.MustCompile(`^(\d\d):(\d\d)-(\d\d):(\d\d)(?: (\S+))?$`)

// parseWindow reads "HH:MM-HH:MM [ZONE]" or "always".
func parseWindow(s string) (Window, error) {
	if s == "always" {
		return Window{}, nil
	}
	m := windowForm.FindStringSubmatch(s)
	if m == nil {
		return Window{}, errors.New("is neither always nor HH:MM-HH:MM with an optional time zone")
	}
	var at [2]time.Duration
	for i := range at {
		h, _ := strconv.Atoi(m[1+2*i])
		min, _ := strconv.Atoi(m[2+2*i])
		at[i] = time.Duration(h)*time.Hour + time.Duration(min)*time.Minute
		if min > 59 || at[i] > 24*time.Hour {
			return Window{}, errors.New("has a time that is not in 00:00 to 24:00")
		}
	}
	w := Window{From: at[0], To: at[1], Zone: m[5]}
	if w.From == w.To {
		return Window{}, errors.New("is empty; write always for the whole day")
	}
	if w.Zone != "" {
		if _, err := time.LoadLocation(w.Zone); err != nil {
			return Window{}, errors.New("names a time zone that this machine does not know")
		}
	}
	return w, nil
}
