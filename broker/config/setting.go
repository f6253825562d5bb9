// Package config holds every setting of the program in one table: its name, meaning,
// unit, default and limits, and where it may be changed.
//
// It is a leaf. It reads texts and judges them; it applies nothing. Invariant: a text
// that came out of Values passed its row's Check.
package config

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Scope says what a setting belongs to; a row may belong to several.
type Scope uint8

// The scopes.
const (
	Node    Scope = 1 << iota // the broker's, in the node's file; Kafka's names
	Topic                     // a topic's own
	Agent                     // the agent's, also where it runs without a broker
	Group                     // a consumer group's own
	Metrics                   // a subscription's to what clients measure (KIP-714)
)

// Kind is the form of a setting's text. The numbers up to Password are Kafka's
// (DescribeConfigs, config type); the two above are told to clients as String.
type Kind int8

// The kinds.
const (
	Bool     Kind = 1
	String   Kind = 2
	Int      Kind = 3
	Short    Kind = 4
	Long     Kind = 5
	Double   Kind = 6
	List     Kind = 7
	Class    Kind = 8
	Password Kind = 9
	Duration Kind = 10 // Go's notation: 90s, 5m
	Size     Kind = 11 // bytes, or a number with KB, MB, GB, TB (powers of 1024)
)

// Wire gives the kind's number in DescribeConfigs.
func (k Kind) Wire() int8 {
	if k > Password {
		return int8(String)
	}
	return int8(k)
}

// Setting is one row of the table.
type Setting struct {
	Name      string
	Scope     Scope
	Kind      Kind
	Unit      string // of numbers: "bytes", "ms", "minutes", "hours", "%", ""
	Default   string
	Min, Max  float64  // of numbers, durations in seconds, sizes in bytes; both zero: the kind's own range
	Values    []string // the only texts allowed; nil: any
	Dynamic   bool     // may change while the broker runs
	Sensitive bool     // never shown
	Uniform   bool     // node settings: must be the same on every node of a cluster
	Follows   []Link   // topic settings: where the default comes from, first one set wins
	Help      string   // one sentence

	form func(text string) (want string) // of texts with a grammar: what a bad one should be, "" for a good one
}

// owned are the scopes of things that have settings of their own, beside the node's.
const owned = Topic | Group | Metrics

// Owned tells that the setting belongs to a topic, a group or a subscription, not to the node or its agent.
func (s Setting) Owned() bool { return s.Scope&owned != 0 }

// Link leads from a topic's setting to a node's; the node's number is multiplied by Factor.
type Link struct {
	Name   string
	Factor int64
}

// Check tells what is wrong with a text for this setting.
//
// Errors: a sentence that names the value, the limit and so the remedy.
func (s Setting) Check(text string) error {
	bad := func(want string) error {
		return fmt.Errorf("cannot set %s to %q: want %s", s.Name, s.shown(text), want)
	}
	if s.Values != nil {
		parts := []string{text}
		if s.Kind == List {
			parts = split(text)
		}
		if len(parts) == 0 {
			return bad("one or more of " + strings.Join(s.Values, ", "))
		}
		for _, p := range parts {
			if !slices.Contains(s.Values, p) {
				return bad("one of " + strings.Join(s.Values, ", "))
			}
		}
		return nil
	}
	if s.form != nil {
		if want := s.form(text); want != "" {
			return bad(want)
		}
		return nil
	}
	switch s.Kind {
	case Bool:
		if text != "true" && text != "false" {
			return bad("true or false")
		}
		return nil
	case Int, Short, Long, Double, Duration, Size:
		n, err := s.number(text)
		if err != nil || n < s.low() || n > s.high() {
			return bad(s.Range())
		}
	}
	return nil
}

// number gives the text as a number in the row's unit: seconds for durations, bytes for sizes.
func (s Setting) number(text string) (float64, error) {
	switch s.Kind {
	case Double:
		return strconv.ParseFloat(text, 64)
	case Duration:
		d, err := time.ParseDuration(text)
		return d.Seconds(), err
	case Size:
		n, err := parseSize(text)
		return float64(n), err
	default:
		n, err := strconv.ParseInt(text, 10, 64)
		return float64(n), err
	}
}

func (s Setting) bounded() bool { return s.Min != 0 || s.Max != 0 }

func (s Setting) low() float64 {
	switch {
	case s.bounded():
		return s.Min
	case s.Kind == Int:
		return math.MinInt32
	case s.Kind == Short:
		return math.MinInt16
	case s.Kind == Size, s.Kind == Duration:
		return 0
	}
	return math.Inf(-1)
}

func (s Setting) high() float64 {
	switch {
	case s.bounded():
		return s.Max
	case s.Kind == Int:
		return math.MaxInt32
	case s.Kind == Short:
		return math.MaxInt16
	}
	return math.Inf(1)
}

// Range says in words which texts are allowed.
func (s Setting) Range() string {
	switch {
	case s.Values != nil:
		return strings.Join(s.Values, ", ")
	case s.Kind == Bool:
		return "true or false"
	case s.Kind == Duration:
		return s.between("a duration such as 90s or 5m", func(f float64) string {
			return (time.Duration(f * float64(time.Second))).String()
		})
	case s.Kind == Size:
		return s.between("a size in bytes, or with KB, MB, GB, TB", func(f float64) string { return strconv.FormatInt(int64(f), 10) })
	case s.Kind == Double:
		return s.between("a number", func(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) })
	case s.Kind == Int, s.Kind == Short, s.Kind == Long:
		return s.between("a whole number", func(f float64) string { return strconv.FormatInt(int64(f), 10) })
	}
	return "any text"
}

func (s Setting) between(what string, show func(float64) string) string {
	if !s.bounded() {
		return what
	}
	unit := ""
	if s.Unit != "" {
		unit = " " + s.Unit
	}
	if s.Max >= math.MaxInt64 {
		return what + " of at least " + show(s.Min) + unit
	}
	return what + " from " + show(s.Min) + " to " + show(s.Max) + unit
}

func (s Setting) shown(text string) string {
	if s.Sensitive {
		return "(hidden)"
	}
	return text
}

func parseSize(text string) (int64, error) {
	t := strings.ToUpper(strings.TrimSpace(text))
	shift := 0
	for i, suffix := range []string{"KB", "MB", "GB", "TB"} {
		if rest, ok := strings.CutSuffix(t, suffix); ok {
			t, shift = strings.TrimSpace(rest), 10*(i+1)
		}
	}
	n, err := strconv.ParseInt(t, 10, 64)
	if err != nil {
		return 0, err
	}
	if n < 0 || n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("cannot hold size %q in 63 bits", text)
	}
	return n << shift, nil
}

func split(text string) []string {
	var out []string
	for p := range strings.SplitSeq(text, ",") {
		if p = strings.TrimSpace(p); p != "" {
			out = append(out, p)
		}
	}
	return out
}
