package config

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

// matchNames are what a subscription may choose clients by.
// Source: KIP-714.
var matchNames = []string{"client_instance_id", "client_id", "client_software_name", "client_software_version", "client_source_address", "client_source_port"}

// clientMetrics are the settings of a subscription to what clients measure.
// Source of names, defaults and limits: KIP-714.
var clientMetrics = []Setting{
	{Name: "metrics", Scope: Metrics, Kind: List, Dynamic: true, Help: "Beginnings of the names of the client metrics that are asked for; * = all; empty = none."},
	{Name: "interval.ms", Scope: Metrics, Kind: Int, Unit: "ms", Default: "300000", Min: 100, Max: 3_600_000, Dynamic: true, Help: "How often clients are to send them."},
	{Name: "match", Scope: Metrics, Kind: List, Dynamic: true, form: checkMatch, Help: "Which clients are asked: NAME=REGEX, several separated by commas, all of which must match the whole text; NAME is client_instance_id, client_id, client_software_name, client_software_version, client_source_address or client_source_port; empty = every client."},
}

func checkMatch(text string) (want string) {
	if _, err := ParseMatch(text); err != nil {
		return "NAME=REGEX, several separated by commas, NAME one of " + strings.Join(matchNames, ", ") + ": " + err.Error()
	}
	return ""
}

// What one subscription's patterns may cost: bytes of text, and instructions of a
// compiled pattern (40 bytes each). Why: (x{30}){30} is a kilobyte of memory a byte.
const (
	maxMatch        = 4096
	maxInstructions = 5000
)

// compile makes a pattern that matches whole texts only.
func compile(pattern string) (*regexp.Regexp, error) {
	pattern = "^(?:" + pattern + ")$"
	tree, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("cannot read pattern: %w", err)
	}
	prog, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return nil, fmt.Errorf("cannot read pattern %q: %w", pattern, err)
	}
	if len(prog.Inst) > maxInstructions {
		return nil, fmt.Errorf("pattern %q takes %d steps, the limit is %d", pattern, len(prog.Inst), maxInstructions)
	}
	return regexp.Compile(pattern)
}

// ParseMatch reads the setting match: the pattern for each name. A pattern matches
// whole texts only.
func ParseMatch(text string) (map[string]*regexp.Regexp, error) {
	if len(text) > maxMatch {
		return nil, fmt.Errorf("it has %d bytes, the limit is %d", len(text), maxMatch)
	}
	out := map[string]*regexp.Regexp{}
	for _, part := range split(text) {
		name, pattern, ok := strings.Cut(part, "=")
		name, pattern = strings.TrimSpace(name), strings.TrimSpace(pattern)
		if !ok || !slices.Contains(matchNames, name) {
			return nil, fmt.Errorf("%q is no such pair", part)
		}
		re, err := compile(pattern)
		if err != nil {
			return nil, err
		}
		out[name] = re
	}
	return out, nil
}
