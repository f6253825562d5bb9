package notify

import (
	"strconv"
	"time"

	"github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/common/model"

	"github.com/belfry-mq/belfry/agent/alarm"
)

// never is the end of an alert that fires. Why not zero: when an alert fires
// again, Alertmanager would take the end of the last time over. Why no lease of
// some periods: the evaluator is in this process and says itself when an alarm is
// over; a lease that runs out while the machine is suspended or the evaluator
// hangs would tell people that all is well.
var never = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)

// firedLabel tells one firing of an alarm from the next. Why: Alertmanager knows
// an alert by its labels alone, and an alarm that ended and came again while
// nobody looked would be no news to it. Receivers never see the label, see
// outlet.message.
const firedLabel model.LabelName = "fired"

// labelsOf gives one firing of an alarm as Alertmanager knows it. Nodes that tell
// of the same alarm have to agree on when it fired.
func labelsOf(a *alarm.Alarm) model.LabelSet {
	set := model.LabelSet{
		model.AlertNameLabel: model.LabelValue(a.Rule),
		"severity":           model.LabelValue(a.Severity),
		firedLabel:           model.LabelValue(a.Fired.UTC().Format(time.RFC3339Nano)),
	}
	if a.Instance != "" {
		set["kafka_instance_id"] = model.LabelValue(a.Instance)
	}
	if a.Watchdog {
		set["watchdog"] = "true"
	}
	for _, l := range a.Labels {
		set[model.LabelName(l.Name)] = model.LabelValue(l.Value)
	}
	return set
}

// toAlert gives an alarm as an alert that fires.
func toAlert(a *alarm.Alarm, now time.Time) *alert.Alert {
	notes := model.LabelSet{
		"summary":      model.LabelValue(a.Summary),
		"advice":       model.LabelValue(a.Advice),
		"object":       model.LabelValue(a.Object()),
		"metric":       model.LabelValue(a.Metric),
		"condition":    model.LabelValue(a.Condition),
		"state":        model.LabelValue(a.State),
		"since":        model.LabelValue(a.Fired.UTC().Format(time.RFC3339)),
		"rule_version": model.LabelValue(a.Version),
		"reason":       model.LabelValue(a.Reason),
	}
	if !a.Watchdog {
		notes["value"] = model.LabelValue(number(a.Value))
		notes["threshold"] = model.LabelValue(number(a.Threshold))
		notes["unit"] = model.LabelValue(unit(a.Unit))
	}
	for name, text := range notes {
		if text == "" {
			delete(notes, name)
		}
	}
	return &alert.Alert{
		Alert:     model.Alert{Labels: labelsOf(a), Annotations: notes, StartsAt: a.Fired, EndsAt: never},
		UpdatedAt: now,
	}
}

// resolved gives an alarm as an alert that is over.
func resolved(a *alarm.Alarm, now time.Time) *alert.Alert {
	over := toAlert(a, now)
	over.EndsAt = a.Ended
	if over.EndsAt.After(now) { // a clock that was set back
		over.EndsAt = now
	}
	if over.EndsAt.Before(over.StartsAt) {
		over.EndsAt = over.StartsAt
	}
	return over
}

// number writes a value as people read it: at most two decimals where it is
// large, all that matter where it is small.
func number(v float64) string {
	if v == float64(int64(v)) {
		return strconv.FormatInt(int64(v), 10)
	}
	if v > 1 || v < -1 {
		v = float64(int64(v*100+0.5)) / 100
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// unit leaves out what reads badly behind a number.
func unit(u string) string {
	if u == "count" || u == "bool" || u == "ratio" {
		return ""
	}
	return u
}
