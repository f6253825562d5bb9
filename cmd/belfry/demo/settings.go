package demo

import (
	"fmt"
	"os"
	"path/filepath"
)

// settings are the node's: everything quick and small, and the three receivers.
func (d *demo) settings(dir, hook, mailHost, gateway string) (map[string]string, error) {
	routes, gateways := filepath.Join(dir, "alertmanager.yml"), filepath.Join(dir, "sms.yml")
	if err := os.WriteFile(routes, fmt.Appendf(nil, routesFile, mailHost, hook), 0o600); err != nil {
		return nil, fmt.Errorf("cannot write routes: %w", err)
	}
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
		"notify.config":                   routes,
		"notify.sms.config":               gateways,
	}, nil
}

// routesFile is Alertmanager's own configuration, with short waits: three receivers that all get every alarm.
const routesFile = `global:
  smtp_smarthost: %q
  smtp_from: belfry@demo.example
  smtp_require_tls: false
route:
  receiver: hook
  group_by: [alertname, kafka_broker]
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 1h
  routes:
    - {receiver: hook, continue: true}
    - {receiver: mail, continue: true}
    - {receiver: phone}
receivers:
  - name: hook
    webhook_configs: [{url: %q}]
  - name: mail
    email_configs: [{to: ops@demo.example, send_resolved: true}]
  - name: phone
`

const gatewaysFile = `receivers:
  - name: phone
    url: %q
    to: ["+4915100000001"]
`
