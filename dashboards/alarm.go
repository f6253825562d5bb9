package dashboards

func alarmBoard(t Thresholds) board {
	b := board{
		file: "alarms.json", uid: alarmUID, title: "Belfry / Alarms",
		about:     "What is wrong now, what the rules watch and how close it is, and whether the news gets out.",
		variables: []variable{sourceVariable(), instanceVariable(), brokerVariable()},
	}
	bad := &limit{value: 1}
	firing := func(severity string) string {
		return `sum(belfry_alarms{@instance,severity="` + severity + `"}) or vector(0)`
	}
	b.layout.row("Now", 6, 4,
		stat(shape{title: "Critical", unit: "none", bad: bad, about: "Critical alarms that are firing."}, firing("critical")),
		stat(shape{title: "Major", unit: "none", bad: bad, about: "Major alarms that are firing."}, firing("major")),
		stat(shape{title: "Minor", unit: "none", bad: bad, about: "Minor alarms that are firing."}, firing("minor")),
		stat(shape{title: "Info", unit: "none", about: "Things worth knowing that no one has to act on."}, firing("info")),
		stat(shape{title: "Not delivered", unit: "none", bad: bad, about: "Notifications that wait to be delivered."}, `sum(belfry_notifications_waiting{@broker})`),
		stat(shape{title: "Rule files refused", unit: "none", bad: bad, about: "Times that a changed rule file was refused in the last hour; the rules before it stay in force."},
			`sum(increase(belfry_rule_reload_failures_total{@broker}[1h]))`),
	)
	b.layout.row("Alarms", 1, 9, firingTable(), firingChart())
	b.layout.row("What the rules watch", 3, 8,
		chart(percent(shape{title: "Disk", alarm: t.limit("broker_disk_usage"), about: "Share of the data disk in use. The dashed line is where the alarm fires."}),
			q(`broker_disk_usage{@broker}`, "broker {{kafka_broker}}")),
		chart(percent(shape{title: "CPU", alarm: t.limit("broker_cpu_usage"), about: "CPU used on the node."}),
			q(`broker_cpu_usage{@broker}`, "broker {{kafka_broker}}")),
		chart(percent(shape{title: "Memory", alarm: t.limit("broker_memory_usage"), about: "Memory used on the node."}),
			q(`broker_memory_usage{@broker}`, "broker {{kafka_broker}}")),
		chart(shape{title: "Load per core", unit: "none", min: number(0), alarm: t.limit("broker_cpu_core_load"), about: "Load average of one minute divided by the number of cores."},
			q(`broker_cpu_core_load{@broker}`, "broker {{kafka_broker}}")),
		chart(shape{title: "Partitions", unit: "short", min: number(0), about: "Partitions in use; the rule compares them with the instance's limit."},
			q(`max(current_partitions{@instance})`, "partitions")),
		chart(shape{title: "Backlog", unit: "short", min: number(0), about: "Messages not yet consumed; the rules compare them with the limits that are set for the instance and for a group's topic."},
			q(`max(group_msgs{@instance})`, "all groups"), q(`topk(5, topic_messages_remained{@instance})`, "{{kafka_groups}} {{kafka_topics}}")),
	)
	b.layout.row("Delivery", 3, 8,
		chart(shape{title: "Delivered", unit: "cps", about: "Notifications delivered a second, by receiver."},
			q(`sum by (receiver) (rate(belfry_notifications_total{@broker}[$__rate_interval]))`, "{{receiver}}")),
		chart(shape{title: "Failed attempts", unit: "cps", about: "Attempts to notify that failed a second, by receiver. They are tried again."},
			q(`sum by (receiver) (rate(belfry_notifications_failed_total{@broker}[$__rate_interval]))`, "{{receiver}}")),
		chart(shape{title: "Waiting", unit: "short", min: number(0), about: "Notifications that wait to be delivered, by receiver."},
			q(`sum by (receiver) (belfry_notifications_waiting{@broker})`, "{{receiver}}")),
	)
	return b
}

// firingTable lists the alarms that are firing, one a line, with the object that each is about.
func firingTable() *panel {
	p := newPanel("table", shape{title: "Firing", unit: "none", about: "Every alarm that is firing now, with the broker, topic or group that it is about."},
		[]query{q(`belfry_alarm_state{@instance}`, "")}, true)
	p.Targets[0].Format = "table"
	p.Transformations = []transformation{{ID: "organize", Options: map[string]any{
		"excludeByName": map[string]any{"Time": true, "Value": true, "__name__": true, "job": true, "instance": true, "kafka_instance_id": true},
		"indexByName":   map[string]any{"rule": 0, "severity": 1, "kafka_broker": 2, "kafka_topics": 3, "kafka_groups": 4, "kafka_partitions": 5},
		"renameByName": map[string]any{"rule": "Rule", "severity": "Severity", "kafka_broker": "Broker", "kafka_topics": "Topic",
			"kafka_groups": "Group", "kafka_partitions": "Partition"},
	}}}
	p.Options = map[string]any{"showHeader": true, "cellHeight": "sm", "footer": map[string]any{"show": false, "reducer": []string{"sum"}, "fields": "", "enablePagination": true}}
	p.FieldConfig.Defaults.Custom = map[string]any{"align": "auto", "filterable": true, "inspect": false}
	colors := map[string]mapped{}
	for i, severity := range []mapped{{Text: "critical", Color: "red"}, {Text: "major", Color: "orange"}, {Text: "minor", Color: "yellow"}, {Text: "info", Color: "blue"}} {
		severity.Index = i
		colors[severity.Text] = severity
	}
	p.FieldConfig.Overrides = []override{{
		Matcher: matcher{ID: "byName", Options: "Severity"},
		Properties: []property{
			{ID: "mappings", Value: []mapping{{Type: "value", Options: colors}}},
			{ID: "custom.cellOptions", Value: map[string]any{"type": "color-text"}},
		},
	}}
	return p
}

// firingChart is the past of the same.
func firingChart() *panel {
	return chart(shape{title: "Firing, by severity", unit: "short", min: number(0), stacked: true, about: "Number of alarms that fire, by severity."},
		q(`sum by (severity) (belfry_alarms{@instance})`, "{{severity}}"))
}
