package rules

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// Comparison is one of > >= < <= == !=.
type Comparison string

// Holds compares a value with a threshold.
func (c Comparison) Holds(value, threshold float64) bool {
	switch c {
	case ">":
		return value > threshold
	case ">=":
		return value >= threshold
	case "<":
		return value < threshold
	case "<=":
		return value <= threshold
	case "==":
		return value == threshold
	case "!=":
		return value != threshold
	}
	panic(fmt.Sprintf("BUG: comparison %q was not checked", string(c)))
}

// Limit is a quantity that the user sets and that a threshold can be a share of.
type Limit string

// The limits.
const (
	PartitionLimit    Limit = "partition_limit"     // partitions that the instance may have
	GroupBacklogLimit Limit = "group_backlog_limit" // messages that all groups together may be behind
	TopicBacklogLimit Limit = "topic_backlog_limit" // messages that one group may be behind in one topic
)

// Condition says when a period is bad: its value compared with a threshold.
type Condition struct {
	Comparison Comparison
	Number     float64 // as written
	Unit       string  // as written; empty = the metric's own
	Of         Limit   // set: Number is a percentage of this limit
	Threshold  float64 // in the metric's own unit; Check computes it
}

// Text gives the condition as it is written in a rule, e.g. "> 80 %".
func (c Condition) Text() string {
	s := string(c.Comparison) + " " + number(c.Number)
	if c.Unit != "" {
		s += " " + c.Unit
	}
	if c.Of != "" {
		s += " of " + string(c.Of)
	}
	return s
}

var conditionForm = regexp.MustCompile(`^\s*(>=|<=|==|!=|>|<)\s*(-?[0-9][0-9_]*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)\s*([^\s]*)(?:\s+of\s+([a-z_]+))?\s*$`)

// parseCondition reads "COMPARISON NUMBER [UNIT] [of LIMIT]".
func parseCondition(s string) (Condition, error) {
	m := conditionForm.FindStringSubmatch(s)
	if m == nil {
		return Condition{}, fmt.Errorf("is not COMPARISON NUMBER [UNIT] [of LIMIT], for example \"> 80 %%\" or \"> 90 %% of partition_limit\"")
	}
	n, err := strconv.ParseFloat(strings.ReplaceAll(m[2], "_", ""), 64)
	if err != nil || math.IsInf(n, 0) {
		return Condition{}, fmt.Errorf("has a number that is out of range")
	}
	c := Condition{Comparison: Comparison(m[1]), Number: n, Unit: m[3], Of: Limit(m[4])}
	switch c.Of {
	case "":
		return c, nil
	case PartitionLimit, GroupBacklogLimit, TopicBacklogLimit:
	default:
		return Condition{}, fmt.Errorf("names the limit %q; there are %s, %s and %s", m[4], PartitionLimit, GroupBacklogLimit, TopicBacklogLimit)
	}
	if c.Unit != "%" {
		return Condition{}, fmt.Errorf("is a share of a limit and needs the unit %%")
	}
	return c, nil
}

// units gives, per unit of a metric, what may be written and its factor.
func units(of string) map[string]float64 {
	bytes := map[string]float64{
		"": 1, "byte": 1, "B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
		"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
	}
	switch of {
	case "byte":
		return bytes
	case "byte/s":
		rates := map[string]float64{"": 1}
		for unit, factor := range bytes {
			if unit != "" {
				rates[unit+"/s"] = factor
			}
		}
		return rates
	case "ms":
		return map[string]float64{"": 1, "ms": 1, "s": 1e3, "min": 60e3}
	case "s":
		return map[string]float64{"": 1, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400}
	case "count/s":
		return map[string]float64{"": 1, "count/s": 1, "/s": 1}
	default: // count, %, ratio, bool: no other way to write it
		return map[string]float64{"": 1, of: 1}
	}
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
