package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/agent"
	"github.com/belfry-mq/belfry/agent/alarm"
	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/rules"
)

// agentOf serves a page of alarms; it gives the address.
func agentOf(t *testing.T, page agent.Alarms) string {
	t.Helper()
	s := httptest.NewServer(agent.Handler(agent.Endpoints{Alarms: func() agent.Alarms { return page }}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func TestAlarmsOfSeveralAgents(t *testing.T) {
	fired := time.Now().Add(-time.Minute).UTC()
	dead := alarm.Alarm{
		Rule: "broker_alive", Severity: rules.Critical, Summary: "A broker is offline", Advice: "Start it again.", Condition: "broker_alive == 0",
		Unit: "bool", Labels: metric.Labels("kafka_broker", "2"), State: alarm.Firing, IsFiring: true, Fired: fired, Wide: true,
	}
	full := alarm.Alarm{
		Rule: "disk", Severity: rules.Major, Condition: "broker_disk_usage > 80 %", Unit: "%", Value: 85.5,
		Labels: metric.Labels("kafka_broker", "1"), State: alarm.NoData, IsFiring: true, Fired: fired,
	}
	over, moved := dead, dead
	over.Rule, over.State, over.Ended, over.Reason = "past", alarm.OK, fired.Add(30*time.Second), "topic x was deleted"
	moved.Ended, moved.Moved = fired, true
	watchdog := alarm.Alarm{Rule: "watchdog", Watchdog: true, State: alarm.Firing}
	speaks := agentOf(t, agent.Alarms{Broker: "0", Firing: []alarm.Alarm{dead, watchdog}, Ended: []alarm.Alarm{over, moved}})
	hears := agentOf(t, agent.Alarms{Broker: "1", Firing: []alarm.Alarm{full}, Elsewhere: []alarm.Alarm{dead}, Ended: []alarm.Alarm{over}})
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	lost := strings.TrimPrefix(gone.URL, "http://")
	list := func(args ...string) (int, string, string) {
		var out, errOut bytes.Buffer
		code := run(t.Context(), append([]string{"alarm", "list"}, args...), strings.NewReader(""), &out, &errOut)
		return code, out.String(), errOut.String()
	}
	code, out, errOut := list("--agent", speaks+","+lost+","+hears)
	want := "CRITICAL  broker_alive, broker 2: A broker is offline\n  since     " + fired.Local().Format(time.DateTime) + ", for 1m0s\n" +
		"  value     0 (the alarm's condition: broker_alive == 0)\n  remedy    Start it again.\n\n" +
		"MAJOR  disk, broker 1: broker_disk_usage > 80 %\n  since     " + fired.Local().Format(time.DateTime) + ", for 1m0s\n" +
		"  value     85.5 %; no reading comes any more (the alarm's condition: broker_disk_usage > 80 %)\n"
	if code != exitOK || out != want {
		t.Errorf("exit %d\n%s\nwant\n%s", code, out, want)
	}
	if !strings.Contains(errOut, "the agent at "+lost+" does not answer") {
		t.Errorf("nothing is said of the one that is gone: %s", errOut)
	}
	if _, out, _ = list("--agent", hears, "--ended"); !strings.Contains(out, "lasted 30s\n  ended ") || !strings.Contains(out, ": topic x was deleted\n") {
		t.Errorf("with those that ended:\n%s", out)
	}
	var lines []alarmLine
	if code, out, _ = list("--agent", speaks+","+hears, "--ended", "-o", "json"); code != exitOK || json.Unmarshal([]byte(out), &lines) != nil || len(lines) != 3 {
		t.Errorf("exit %d, %d alarms as JSON:\n%s", code, len(lines), out)
	}
	if code, _, errOut = list("--agent", lost); code != exitFailed || !strings.Contains(errOut, "--agent") {
		t.Errorf("exit %d: %s", code, errOut)
	}
	if _, out, _ = list("--agent", agentOf(t, agent.Alarms{})); out != "no alarm fires\n" {
		t.Errorf("no alarm: %q", out)
	}
}

func TestWrap(t *testing.T) {
	if got := wrap("one two  three\nfour", 8, "  "); got != "one two\n  three\n  four" {
		t.Errorf("%q", got)
	}
}
