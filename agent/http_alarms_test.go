package agent

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/belfry-mq/belfry/agent/alarm"
)

func TestPageOfAlarms(t *testing.T) {
	known := Alarms{Instance: "i", Broker: "1"}
	h := Handler(Endpoints{Alarms: func() Alarms { return known }})
	ask := func(method string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, "/alarms", nil))
		return w.Code, w.Body.String()
	}
	if code, body := ask("GET"); code != 200 || strings.TrimSpace(body) != `{"instance":"i","broker":"1","firing":[]}` {
		t.Errorf("nothing fires: %d %s", code, body)
	}
	known.Firing = []alarm.Alarm{{Rule: "broker_alive", State: alarm.Firing, Advice: "Start it again."}}
	var got Alarms
	if code, body := ask("GET"); code != 200 || json.Unmarshal([]byte(body), &got) != nil || len(got.Firing) != 1 || got.Firing[0].Advice != "Start it again." {
		t.Errorf("one fires: %d %s", code, body)
	}
	if code, _ := ask("POST"); code != 405 {
		t.Errorf("POST: %d", code)
	}
	h = Handler(Endpoints{})
	if code, _ := ask("GET"); code != 404 {
		t.Errorf("without alarms: %d", code)
	}
}
