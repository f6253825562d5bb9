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

	Acts          map[Policy]int64
	DeletedBytes  int64
	ProbeFailed   bool
	ProbeFailures int64
	Untold        int64 // events dropped because whoever keeps them hangs

	lastAct map[Policy]time.Time
}

// The series that a guard gives, all with the label kafka_broker.
const (
	Acting        metric.ID = "belfry_guard_acting"
	ActsTotal     metric.ID = "belfry_guard_acts_total"
	DeletedTotal  metric.ID = "belfry_guard_deleted_bytes_total"
	Emptied       metric.ID = "belfry_guard_exhausted"
	ForecastLeft  metric.ID = "belfry_guard_forecast_seconds"
	InForce       metric.ID = "belfry_guard_policy"
	ProbeFailing  metric.ID = "belfry_guard_probe_failed"
	ProbesFailed  metric.ID = "belfry_guard_probe_failures_total"
	RejectedTotal metric.ID = "belfry_guard_rejected_requests_total"
	ThresholdAt   metric.ID = "belfry_guard_threshold_percent"
	UntoldTotal   metric.ID = "belfry_guard_untold_total"
	UsageNow      metric.ID = "belfry_guard_usage_percent"
)

// Metrics are the catalogue rows of the series above, sorted by ID.
func Metrics() []metric.Metric {
	broker, policy := []string{"kafka_broker"}, []string{"kafka_broker", "policy"}
	row := func(id metric.ID, unit string, labels []string, help string) metric.Metric {
		return metric.Metric{ID: id, Help: help, Unit: unit, Labels: labels, Group: "own"}
	}
	count := func(m metric.Metric) metric.Metric { m.Counter = true; return m }
	return []metric.Metric{
		row(Acting, "bool", policy, "1 while the capacity policy acts, and for two periods after"),
		count(row(ActsTotal, "count", policy, "acts of the capacity policy: deletions, refusals begun")),
		count(row(DeletedTotal, "byte", broker, "message data deleted by the capacity policy")),
		row(Emptied, "bool", broker, "1 while the disk is above the threshold and nothing is left to delete"),
		row(ForecastLeft, "s", broker, "time until the disk reaches the capacity threshold at the present pace; absent while it does not fill"),
		row(InForce, "bool", policy, "1 for the capacity policy in force"),
		row(ProbeFailing, "bool", broker, "1 while the disk usage cannot be read"),
		count(row(ProbesFailed, "count", broker, "looks at the disk that failed or were not answered in time")),
		count(row(RejectedTotal, "count", broker, "produce requests refused by the capacity policy")),
		row(ThresholdAt, "%", broker, "disk usage at which the capacity policy acts"),
		count(row(UntoldTotal, "count", broker, "capacity events dropped because their keeper hangs")),
		row(UsageNow, "%", broker, "disk usage as the capacity guard last read it"),
	}
}

// Samples gives the guard's series of this moment, sorted by ID, then labels. What is not known is absent.
func (g *Guard) Samples() []metric.Sample {
	s := g.Status()
	broker := []metric.Label{{Name: "kafka_broker", Value: g.o.Broker}}
	var out []metric.Sample
	add := func(id metric.ID, v float64) { out = append(out, metric.Sample{ID: id, Labels: broker, Value: v}) }
	each := func(id metric.ID, value func(Policy) float64) {
		for _, p := range []Policy{Delete, Reject} {
			out = append(out, metric.Sample{ID: id, Value: value(p), Labels: []metric.Label{broker[0], {Name: "policy", Value: string(p)}}})
		}
	}
	now := time.Now()
	each(Acting, func(p Policy) float64 {
		last, ever := s.lastAct[p]
		return number(ever && now.Sub(last) <= g.o.Settings.Hold || p == s.Policy && (s.Refusing || s.Deleting))
	})
	each(ActsTotal, func(p Policy) float64 { return float64(s.Acts[p]) })
	add(DeletedTotal, float64(s.DeletedBytes))
	add(Emptied, number(s.Exhausted))
	if s.Filling && !s.ProbeFailed {
		add(ForecastLeft, s.Forecast.Seconds())
	}
	each(InForce, func(p Policy) float64 { return number(p == s.Policy) })
	add(ProbeFailing, number(s.ProbeFailed))
	add(ProbesFailed, float64(s.ProbeFailures))
	if g.o.Rejected != nil {
		add(RejectedTotal, float64(g.o.Rejected()))
	}
	add(ThresholdAt, s.Threshold)
	add(UntoldTotal, float64(s.Untold))
	if !s.Checked.IsZero() && !s.ProbeFailed {
		add(UsageNow, s.Percent)
	}
	return out
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
