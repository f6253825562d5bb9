package rules

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Matcher chooses objects by one label, as in PromQL. A label that a series does
// not have counts as empty.
type Matcher struct {
	Label string
	Op    string // = != =~ !~; the last two match the whole value
	Value string

	re *regexp.Regexp // set for =~ and !~
}

// Matches says whether a label's value is taken.
func (m *Matcher) Matches(value string) bool {
	switch m.Op {
	case "=":
		return value == m.Value
	case "!=":
		return value != m.Value
	case "=~":
		return m.re.MatchString(value)
	case "!~":
		return !m.re.MatchString(value)
	}
	panic(fmt.Sprintf("BUG: matcher %q was not checked", m.Op))
}

// String gives the matcher as it is written.
func (m Matcher) String() string { return m.Label + m.Op + strconv.Quote(m.Value) }

func matchText(ms []Matcher) string {
	parts := make([]string, len(ms))
	for i, m := range ms {
		parts[i] = m.String()
	}
	return strings.Join(parts, ", ")
}

var matcherHead = regexp.MustCompile(`^\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*`)

// parseMatch reads a list as PromQL has it between braces: label="value", label=~"regular expression".
func parseMatch(s string) ([]Matcher, error) {
	var found []Matcher
	for rest := s; ; {
		head := matcherHead.FindStringSubmatch(rest)
		if head == nil {
			return nil, fmt.Errorf("is not a list of LABEL=\"VALUE\" (also != =~ !~) at %q", rest)
		}
		rest = rest[len(head[0]):]
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return nil, fmt.Errorf("wants a value in double quotes at %q", rest)
		}
		value, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, fmt.Errorf("wants a value in double quotes at %q", rest)
		}
		m := Matcher{Label: head[1], Op: head[2], Value: value}
		if strings.HasSuffix(m.Op, "~") {
			if m.re, err = regexp.Compile("^(?s:" + value + ")$"); err != nil {
				return nil, fmt.Errorf("has a bad regular expression: %v", err)
			}
		}
		found = append(found, m)
		rest = strings.TrimSpace(rest[len(quoted):])
		if rest == "" {
			return found, nil
		}
		if !strings.HasPrefix(rest, ",") {
			return nil, fmt.Errorf("wants a comma at %q", rest)
		}
		if rest = strings.TrimSpace(rest[1:]); rest == "" {
			return found, nil // a comma at the end is allowed, as in PromQL
		}
	}
}
