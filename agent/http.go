package agent

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/belfry-mq/belfry/agent/alarm"
)

// Endpoints are what the agent's port shows.
type Endpoints struct {
	// Metrics answers /metrics.
	Metrics http.Handler
	// Health gives the reasons why this process should be started anew; none when it
	// is alive. Nil: always alive.
	Health func() []string
	// Ready gives the reasons why clients should not come yet; none when they may.
	// Nil: always ready.
	Ready func() []string
	// SafeToStop answers /safe-to-stop. Nil: there is no such page.
	SafeToStop http.Handler
	// Alarms gives what /alarms shows. Nil: it is not there.
	Alarms func() Alarms
}

// Alarms is what a node knows of alarms.
type Alarms struct {
	Instance  string        `json:"instance"`
	Broker    string        `json:"broker,omitempty"`
	Firing    []alarm.Alarm `json:"firing"`              // found by this node
	Elsewhere []alarm.Alarm `json:"elsewhere,omitempty"` // about the cluster, found by the node that speaks for it
	Ended     []alarm.Alarm `json:"ended,omitempty"`     // within the last day, the last to end last
}

// Handler answers /metrics, /healthz, /readyz, /safe-to-stop and /alarms, which is JSON.
//
// The two checks answer 200 or 503; the reasons come a line each, or as JSON for
// who asks for it.
func Handler(e Endpoints) http.Handler {
	mux := http.NewServeMux()
	if e.Metrics != nil {
		mux.Handle("/metrics", e.Metrics)
	}
	mux.Handle("/healthz", check(e.Health))
	mux.Handle("/readyz", check(e.Ready))
	if e.SafeToStop != nil {
		mux.Handle("/safe-to-stop", e.SafeToStop)
	}
	if e.Alarms != nil {
		mux.Handle("/alarms", page(e.Alarms))
	}
	return mux
}

// page shows the alarms.
func page(alarms func() Alarms) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
			return
		}
		all := alarms()
		if all.Firing == nil {
			all.Firing = []alarm.Alarm{} // nothing fires: that is known
		}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(all) // the reader went away
	})
}

func check(reasons func() []string) http.Handler {
	if reasons == nil {
		reasons = func() []string { return nil }
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
			return
		}
		why := reasons()
		status, word := http.StatusOK, "ok"
		if len(why) > 0 {
			status, word = http.StatusServiceUnavailable, "unavailable"
		}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Vary", "Accept")
		if strings.Contains(r.Header.Get("Accept"), "application/json") {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(struct { // the reader went away
				Status  string   `json:"status"`
				Reasons []string `json:"reasons,omitempty"`
			}{word, why})
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(word + "\n" + lines(why)))
	})
}

func lines(all []string) string {
	var b strings.Builder
	for _, line := range all {
		b.WriteString(line + "\n")
	}
	return b.String()
}
