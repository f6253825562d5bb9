package dashboards

import "github.com/belfry-mq/belfry/rules"

// RuleThresholds gives the fixed values above which rules fire. A metric that several rules watch has the lowest: the
// first line that a rising value crosses.
func RuleThresholds(all []rules.Rule) Thresholds {
	found := map[string]float64{}
	for _, r := range all {
		c := r.Condition
		rises := c.Comparison == ">" || c.Comparison == ">="
		if !r.Enabled || !rises || c.Of != "" || c.Unit != "" && c.Unit != "%" || len(r.Match) > 0 || r.Aggregation != rules.Raw {
			continue
		}
		if old, ok := found[r.Metric]; !ok || c.Number < old {
			found[r.Metric] = c.Number
		}
	}
	return func(metric string) (float64, bool) {
		v, ok := found[metric]
		return v, ok
	}
}
