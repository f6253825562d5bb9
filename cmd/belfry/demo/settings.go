package demo

import (
	"fmt"
	"os"
	"path/filepath"
)

// settings are the node's: everything quick and small, and the three receivers.
func (d *demo) settings(dir, hook, mailHost, gateway string) (map[string]string, error) {
	gateways := filepath.Join(dir, "sms.yml")
	if err := os.WriteFile(gateways, fmt.Appendf(nil, gatewaysFile, gateway), 0o600); err != nil {
		return nil, fmt.Errorf("cannot write SMS gateways: %w", err)
	}
	return map[string]string{
		"storage_capacity":                fmt.Sprint(d.o.Capacity),
		"storage.reserve.bytes":           "1048576",
		"capacity.policy":                 d.o.Policy,
		"capacity.check.interval":         "1s",
		"agent.period":                    "1s",
		"offsets.topic.num.partitions":    "1",
		"log.retention.check.interval.ms": "1000",
		"notify.webhook.url":              hook,
		"notify.email.to":                 "ops@demo.example",
		"notify.email.from":               "belfry@demo.example",
		"notify.email.smarthost":          mailHost,
		"notify.email.require_tls":        "false",
		"notify.sms.config":               gateways,
	}, nil
}

const gatewaysFile = `receivers:
  - name: phone
    url: %q
    to: ["+4915100000001"]
`
