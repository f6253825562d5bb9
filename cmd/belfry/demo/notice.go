package demo

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// payload is the part of a webhook's body that the demo reads; it is Alertmanager's.
type payload struct {
	Alerts []struct {
		Status      string            `json:"status"`
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
	} `json:"alerts"`
}

// fromWebhook reads the alarms of a webhook's body; a body that is none has none.
func fromWebhook(body string) []notice {
	var p payload
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		return nil
	}
	var all []notice
	for _, a := range p.Alerts {
		all = append(all, notice{rule: a.Labels["alertname"], resolved: a.Status == "resolved"})
	}
	return all
}

// adviceOf gives what a webhook's body says is to be done about an alarm; "" when it is not about that.
func adviceOf(body, rule string) string {
	var p payload
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		return ""
	}
	for _, a := range p.Alerts {
		if a.Labels["alertname"] == rule {
			return a.Annotations["advice"]
		}
	}
	return ""
}

// describeWebhook is one line about a webhook's body.
func describeWebhook(body string) string {
	var p payload
	if err := json.Unmarshal([]byte(body), &p); err != nil || len(p.Alerts) == 0 {
		return body
	}
	var parts []string
	for _, a := range p.Alerts {
		text := fmt.Sprintf("%s %s [%s]", a.Status, a.Labels["alertname"], a.Labels["severity"])
		if broker := a.Labels["kafka_broker"]; broker != "" {
			text += " broker " + broker
		}
		if summary := a.Annotations["summary"]; summary != "" {
			text += ": " + summary
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}

// head is how a message for people begins, a mail's subject as well as an SMS: "[OK] rule: object" or "[CRITICAL] rule: …".
var head = regexp.MustCompile(`\[([A-Z]+)\] ([a-zA-Z0-9_-]+):`)

// fromText finds the alarms in a text for people.
func fromText(text string) []notice {
	var all []notice
	for _, m := range head.FindAllStringSubmatch(text, -1) {
		all = append(all, notice{rule: m[2], resolved: m[1] == "OK"})
	}
	return all
}
