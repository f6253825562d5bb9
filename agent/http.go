package agent

import (
	"encoding/json"
	"net/http"
	"strings"
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
}

// Handler answers /metrics, /healthz, /readyz and /safe-to-stop.
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
	return mux
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
