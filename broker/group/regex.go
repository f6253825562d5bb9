package group

import (
	"errors"
	"regexp"
	"regexp/syntax"
	"slices"
)

// mostInstructions bounds a compiled pattern. Why: matching takes time with the length of
// the name times this, for every topic, and whoever may consume may send one.
const mostInstructions = 10_000

var errPatternSize = errors.New("the pattern is too large")

// pattern compiles a topic pattern. It is RE2's syntax, which Kafka's library shares.
func pattern(text string) (*regexp.Regexp, error) {
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, err
	}
	prog, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, err
	}
	if len(prog.Inst) > mostInstructions {
		return nil, errPatternSize
	}
	re, err := regexp.Compile(text)
	if err == nil {
		re.Longest()
	}
	return re, err
}

// matching gives the topics whose whole name a pattern matches, sorted.
func matching(text string, view *topics) []string {
	re, err := pattern(text)
	if err != nil {
		return nil // Why no error: it was checked when it came in
	}
	var out []string
	for name := range view.byName {
		if at := re.FindStringIndex(name); at != nil && at[0] == 0 && at[1] == len(name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}
