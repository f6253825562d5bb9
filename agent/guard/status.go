package guard

import (
	"time"

	"github.com/belfry-mq/belfry/agent/metric"
)

// Status is what the guard knows and has done since it was made. Read only.
type Status struct {
	Policy      Policy
	Threshold   float64
	Checked     time.Time // the last look that succeeded; zero: none yet
	Percent     float64
	Used, Total int64

	Refusing  bool
	Deleting  bool
	Exhausted bool          // the last deletion found nothing to delete
	Filling   bool          // Forecast holds
	Forecast  time.Duration // until the threshold, at the pace of the last minutes; 0: reached

	Refusals     int64 // begun
	Deletions    int64
	DeletedBytes int64
	ProbeFailed  bool  // the disk cannot be read now
	Failures     int64 // looks and deletions that failed
	Untold       int64 // events dropped because whoever keeps them hangs

	lastAct time.Time
}

// The series that a guard gives, all with the label kafka_broker; the catalogue has the same names.
const (
	activeID    metric.ID = "belfry_guard_active"
	deletedID   metric.ID = "belfry_guard_deleted_bytes_total"
	deletionsID metric.ID = "belfry_guard_deletions_total"
	usageID     metric.ID = "belfry_guard_disk_usage"
	exhaustedID metric.ID = "belfry_guard_exhausted"
	failuresID  metric.ID = "belfry_guard_failures_total"
	forecastID  metric.ID = "belfry_guard_forecast_seconds"
	policyID    metric.ID = "belfry_guard_policy"
	probeID     metric.ID = "belfry_guard_probe_failed"
	rejectedID  metric.ID = "belfry_guard_rejected_requests_total"
	rejectingID metric.ID = "belfry_guard_rejecting"
	thresholdID metric.ID = "belfry_guard_threshold"
	untoldID    metric.ID = "belfry_guard_untold_total"
)

// Samples gives the guard's series of this moment, sorted by ID, then labels. What is not known is absent.
func (g *Guard) Samples() []metric.Sample {
	s := g.Status()
	broker := []metric.Label{{Name: "kafka_broker", Value: g.o.Broker}}
	var out []metric.Sample
	add := func(id metric.ID, v float64) { out = append(out, metric.Sample{ID: id, Labels: broker, Value: v}) }
	seen := !s.Checked.IsZero() && !s.ProbeFailed
	held := !s.lastAct.IsZero() && time.Since(s.lastAct) <= g.o.Settings.Hold
	add(activeID, number(s.Refusing || s.Deleting || held || seen && s.Percent >= s.Threshold))
	add(deletedID, float64(s.DeletedBytes))
	add(deletionsID, float64(s.Deletions))
	if seen {
		add(usageID, s.Percent)
	}
	add(exhaustedID, number(s.Exhausted))
	add(failuresID, float64(s.Failures))
	if seen && s.Filling {
		add(forecastID, s.Forecast.Seconds())
	}
	for _, p := range []Policy{Delete, Reject} {
		out = append(out, metric.Sample{ID: policyID, Value: number(p == s.Policy),
			Labels: []metric.Label{broker[0], {Name: "policy", Value: string(p)}}})
	}
	add(probeID, number(s.ProbeFailed))
	if g.o.Rejected != nil {
		add(rejectedID, float64(g.o.Rejected()))
	}
	add(rejectingID, number(s.Refusing))
	add(thresholdID, s.Threshold)
	add(untoldID, float64(s.Untold))
	return out
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
