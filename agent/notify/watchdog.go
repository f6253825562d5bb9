package notify

import (
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/alertmanager/config"
	"github.com/prometheus/common/model"
)

// routeWatchdog keeps the alarm that always fires from people where a file says
// the routes: unless one of them is about it, it goes to its switch, or to nobody.
//
// Errors: the file and the setting both say where, or the receiver's name is taken.
func routeWatchdog(conf *config.Config, o Options) error {
	if mentionsWatchdog(conf.Route) {
		if o.DeadMan != "" {
			return fmt.Errorf("cannot use the setting for the watchdog's URL: %q has a route for the watchdog; take one of both out", o.ConfigFile)
		}
		return nil
	}
	own, err := fromSettings(Options{DeadMan: o.DeadMan})
	if err != nil {
		return err
	}
	at := slices.IndexFunc(own.Receivers, func(r config.Receiver) bool { return r.Name == deadManReceiver })
	if slices.ContainsFunc(conf.Receivers, func(r config.Receiver) bool { return r.Name == deadManReceiver }) {
		return fmt.Errorf("%s: the receiver %q is the watchdog's own: give another name, or a route with the matcher watchdog=\"true\"", o.ConfigFile, deadManReceiver)
	}
	conf.Receivers = append(conf.Receivers, own.Receivers[at])
	route := own.Route.Routes[0]
	route.Receiver = deadManReceiver
	route.GroupByStr, route.GroupByAll = []string{"..."}, true
	duration := func(d time.Duration) *model.Duration { m := model.Duration(d); return &m }
	route.GroupWait, route.GroupInterval, route.RepeatInterval = duration(0), duration(o.groupInterval()), duration(byRule)
	conf.Route.Routes = append([]*config.Route{route}, conf.Route.Routes...)
	return nil
}

// mentionsWatchdog says whether a route, or one below it, chooses by the watchdog's label or name.
func mentionsWatchdog(r *config.Route) bool {
	for _, m := range r.Matchers {
		if m.Name == "watchdog" || m.Name == model.AlertNameLabel && m.Value == "watchdog" {
			return true
		}
	}
	_, label := r.Match["watchdog"]
	return label || r.Match[model.AlertNameLabel] == "watchdog" || slices.ContainsFunc(r.Routes, mentionsWatchdog)
}
