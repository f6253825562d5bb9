package dashboards

import (
	"strings"
	"testing"
)

// someInterval stands for $__rate_interval.
const someInterval = "1m0s"

var someValues = Values{Instance: "i-1", Broker: ".+", Topic: ".+", Group: ".+", Interval: someInterval}

func TestQueriesAreFilledAndComplete(t *testing.T) {
	all := Queries(someValues)
	kinds := map[string]int{}
	for _, q := range all {
		if strings.ContainsAny(q.Expr, "$@") {
			t.Errorf("%s: not filled", q)
		}
		kind, _, _ := strings.Cut(q.Panel, " ")
		kinds[kind]++
		kinds[q.Board]++
	}
	if kinds["variable"] != 12 || kinds["annotation"] != 5 {
		t.Errorf("%d variables, %d annotations; want 12 and 5", kinds["variable"], kinds["annotation"])
	}
	for _, b := range []string{"instance.json", "broker.json", "topic.json", "group.json", "alarms.json"} {
		if kinds[b] < 10 {
			t.Errorf("%s: only %d queries", b, kinds[b])
		}
	}
	// Absent is an excuse; few may have one.
	excused := 0
	for _, q := range all {
		if q.Absent != "" {
			excused++
		}
	}
	if excused > 4 {
		t.Errorf("%d queries may be empty", excused)
	}
}
