package demo

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// settings are the node's: everything quick and small, and the three receivers.
func (d *demo) settings(dir, hook, mailHost, gateway string) (map[string]string, error) {
	gateways, rules := filepath.Join(dir, "sms.yaml"), filepath.Join(dir, "rules.yaml")
	if err := os.WriteFile(gateways, fmt.Appendf(nil, gatewaysFile, gateway), 0o600); err != nil {
		return nil, fmt.Errorf("cannot write SMS gateways: %w", err)
	}
	if err := os.WriteFile(rules, []byte(rulesFile), 0o600); err != nil {
		return nil, fmt.Errorf("cannot write rules: %w", err)
	}
	return map[string]string{
		"storage_capacity":                fmt.Sprint(d.o.Capacity),
		"storage.reserve.bytes":           "1048576",
		"capacity.policy":                 d.o.Policy,
		"capacity.check.interval":         "1s",
		"agent.period":                    fmt.Sprintf("%ds", period/time.Second),
		"alarm.rules":                     rules,
		"offsets.topic.num.partitions":    "1",
		"log.retention.check.interval.ms": "1000",
		"notify.webhook.url":              hook,
		"notify.email.to":                 "ops@demo.example",
		"notify.email.from":               "belfry@demo.example",
		"notify.email.smarthost":          mailHost,
		"notify.email.tls":                "none",
		"notify.sms.config":               gateways,
	}, nil
}

// gatewaysFile is a gateway without a preset, as an in-house one would be.
const gatewaysFile = `sms:
  - url: %q
    json: {to: "{{ .To }}", text: "{{ .Text }}"}
    recipients: ["+4915100000001"]
    rate: none
    success: {status: 201}
`

// rulesFile switches the alarms about this machine off: how busy it is is not in the story.
const rulesFile = `rules:
  - {name: broker_cpu_core_load, enabled: false}
  - {name: broker_cpu_usage, enabled: false}
  - {name: broker_memory_usage, enabled: false}
  - {name: collector_timeouts, enabled: false}
`
