package agent

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestChecks(t *testing.T) {
	var why []string
	h := Handler(Endpoints{
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "m") }),
		Ready:   func() []string { return why },
	})
	ask := func(method, path, accept string) (int, string) {
		r := httptest.NewRequest(method, path, nil)
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	if code, body := ask("GET", "/readyz", ""); code != 200 || body != "ok\n" {
		t.Errorf("ready: %d %q", code, body)
	}
	why = []string{"log recovery: 3 of 9 partitions", "not registered"}
	if code, body := ask("GET", "/readyz", "*/*"); code != 503 || body != "unavailable\nlog recovery: 3 of 9 partitions\nnot registered\n" {
		t.Errorf("not ready: %d %q", code, body)
	}
	code, body := ask("GET", "/readyz", "application/json")
	var got struct {
		Status  string
		Reasons []string
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil || code != 503 || got.Status != "unavailable" || len(got.Reasons) != 2 {
		t.Errorf("not ready: %d %q %v", code, body, err)
	}
	if code, body := ask("GET", "/healthz", ""); code != 200 || body != "ok\n" {
		t.Errorf("alive: %d %q", code, body)
	}
	if code, body := ask("GET", "/metrics", ""); code != 200 || body != "m" {
		t.Errorf("metrics: %d %q", code, body)
	}
	if code, _ := ask("POST", "/healthz", ""); code != 405 {
		t.Errorf("POST: %d", code)
	}
	if code, _ := ask("GET", "/nothing", ""); code != 404 {
		t.Errorf("no such page: %d", code)
	}
}
