package dashboards

func brokerBoard(t Thresholds) board {
	b := board{
		file: "broker.json", uid: brokerUID, title: "Belfry / Broker",
		about:     "One broker or several: requests, connections, disk, capacity guard and host.",
		variables: []variable{sourceVariable(), instanceVariable(), brokerVariable()},
	}
	brokerHealth(&b, t)
	b.layout.row("Throughput", 3, 8,
		chart(shape{title: "Messages in", unit: "cps", about: "Messages produced a second."},
			q(`broker_messages_in_rate{@broker}`, "broker {{kafka_broker}}")),
		chart(shape{title: "Client bytes", unit: "Bps", about: "Bytes that clients produced and consumed a second, without replication."},
			q(`broker_bytes_in_rate{@broker}`, "in, broker {{kafka_broker}}"), q(`broker_bytes_out_rate{@broker}`, "out, broker {{kafka_broker}}")),
		chart(shape{title: "Public listeners", unit: "Bps", about: "All bytes on the listeners that are reached from outside."},
			q(`broker_public_bytes_in_rate{@broker}`, "in, broker {{kafka_broker}}"), q(`broker_public_bytes_out_rate{@broker}`, "out, broker {{kafka_broker}}")),
		chart(shape{title: "Node network", unit: "Bps", about: "All bytes on the node's network, whoever sends them."},
			q(`broker_total_bytes_in_rate{@broker}`, "in, broker {{kafka_broker}}"), q(`broker_total_bytes_out_rate{@broker}`, "out, broker {{kafka_broker}}")),
		chart(shape{title: "Connections", unit: "short", min: number(0), about: "Open connections by listener."},
			q(`sum by (listener) (belfry_connections{@broker})`, "{{listener}}")),
		chart(shape{title: "Connections opened and refused", unit: "cps", about: "Connections accepted and refused a second, by listener. Refused: over a limit."},
			q(`sum by (listener) (rate(belfry_connections_accepted_total{@broker}[$__rate_interval]))`, "accepted, {{listener}}"),
			q(`sum by (listener) (rate(belfry_connections_refused_total{@broker}[$__rate_interval]))`, "refused, {{listener}}")),
	)
	brokerRequests(&b)
	brokerDisk(&b, t)
	brokerHost(&b, t)
	return b
}

func brokerHealth(b *board, t Thresholds) {
	yes := []mapped{{Text: "offline", Color: "red"}, {Text: "alive", Color: "green"}}
	b.layout.row("Health", 8, 4,
		stat(shape{title: "Alive", unit: "none", bad: &limit{value: 1, below: true}, states: yes, about: "Whether every chosen broker answers."}, `min(broker_alive{@broker})`),
		stat(percent(shape{title: "Disk", alarm: t.limit("broker_disk_usage"), about: "Share of the data disk in use; the fullest of the chosen brokers."}), `max(broker_disk_usage{@broker})`),
		stat(shape{title: "Disk full in", unit: "s", absent: "the disk does not fill", bad: &limit{value: 3600, below: true},
			about: "Time until the disk reaches the capacity threshold at the pace of the last minutes. Empty while it does not fill."},
			`min(belfry_guard_forecast_seconds{@broker})`),
		stat(shape{title: "Capacity guard", unit: "none", bad: &limit{value: 1}, states: []mapped{{Text: "quiet", Color: "green"}, {Text: "acts", Color: "red"}},
			about: "Whether the disk is past the capacity threshold and the guard deletes or refuses."}, `max(belfry_guard_active{@broker})`),
		stat(percent(shape{title: "CPU", alarm: t.limit("broker_cpu_usage"), about: "CPU used on the node."}), `max(broker_cpu_usage{@broker})`),
		stat(percent(shape{title: "Memory", alarm: t.limit("broker_memory_usage"), about: "Memory used on the node."}), `max(broker_memory_usage{@broker})`),
		stat(percent(shape{title: "Heap", about: "Heap in use of the broker process against its memory limit."}), `max(broker_heap_usage{@broker})`),
		stat(shape{title: "Connections", unit: "short", about: "Open TCP connections of clients."}, `sum(broker_connections{@broker})`),
	)
}

func brokerRequests(b *board) {
	b.layout.row("Requests", 3, 8,
		chart(shape{title: "Requests", unit: "reqps", stacked: true, about: "Requests answered a second, by API."},
			q(`sum by (api) (rate(belfry_request_duration_seconds_count{@broker}[$__rate_interval]))`, "{{api}}")),
		chart(shape{title: "Request time, 99th percentile", unit: "s", about: "99 of 100 requests are answered within this time, waiting for data or replicas included, by API."},
			q(`histogram_quantile(0.99, sum by (le, api) (rate(belfry_request_duration_seconds_bucket{@broker}[$__rate_interval])))`, "{{api}}")),
		chart(shape{title: "Work time, 99th percentile", unit: "s", about: "The same without the time that a request waits for data or replicas."},
			q(`histogram_quantile(0.99, sum by (le, api) (rate(belfry_request_local_duration_seconds_bucket{@broker}[$__rate_interval])))`, "{{api}}")),
		chart(shape{title: "Produce and fetch, mean", unit: "ms", about: "Mean time to serve a request in the period."},
			q(`broker_produce_mean{@broker}`, "produce, broker {{kafka_broker}}"), q(`broker_fetch_mean{@broker}`, "fetch, broker {{kafka_broker}}")),
		chart(shape{title: "Errors", unit: "reqps", absent: "no request failed", about: "Requests answered with an error a second, by API and code."},
			q(`sum by (api, code) (rate(belfry_request_errors_total{@broker}[$__rate_interval]))`, "{{api}} {{code}}")),
		chart(shape{title: "Bytes by API", unit: "Bps", about: "Bytes of requests and answers a second, by API."},
			q(`sum by (api) (rate(belfry_request_bytes_total{@broker}[$__rate_interval]))`, "{{api}} in"),
			q(`sum by (api) (rate(belfry_response_bytes_total{@broker}[$__rate_interval]))`, "{{api}} out")),
	)
}

func brokerDisk(b *board, t Thresholds) {
	b.layout.row("Disk and capacity", 3, 8,
		chart(percent(shape{title: "Disk usage", alarm: t.limit("broker_disk_usage"), about: "Share of the data disk in use, and where the capacity guard acts. The dashed line is the alarm's."}),
			q(`broker_disk_usage{@broker}`, "broker {{kafka_broker}}"), q(`max(belfry_guard_threshold{@broker})`, "guard acts")),
		chart(shape{title: "Space", unit: "bytes", min: number(0), about: "Bytes used and the size of the data disk (or of the storage capacity that is set), and how much of it is message data."},
			q(`belfry_disk_used_bytes{@broker}`, "used, broker {{kafka_broker}}"), q(`belfry_disk_capacity_bytes{@broker}`, "size, broker {{kafka_broker}}"),
			q(`broker_data_size{@broker}`, "messages, broker {{kafka_broker}}")),
		chart(shape{title: "Capacity guard", unit: "none", min: number(0), about: "1 while the guard acts, refuses produce, or finds nothing left to delete."},
			q(`belfry_guard_active{@broker}`, "acts, broker {{kafka_broker}}"), q(`belfry_guard_rejecting{@broker}`, "refuses, broker {{kafka_broker}}"),
			q(`belfry_guard_exhausted{@broker}`, "nothing left, broker {{kafka_broker}}")),
		chart(shape{title: "Deleted by the guard", unit: "Bps", about: "Bytes of message data a second that the capacity guard deleted."},
			q(`sum by (kafka_broker) (rate(belfry_guard_deleted_bytes_total{@broker}[$__rate_interval]))`, "broker {{kafka_broker}}")),
		chart(shape{title: "Disk wait", unit: "ms", absent: "no reads or writes reached the disk, or the kernel does not count them", about: "Mean time of a read and of a write on the data disk."},
			q(`broker_disk_read_await{@broker}`, "read, broker {{kafka_broker}}"), q(`broker_disk_write_await{@broker}`, "write, broker {{kafka_broker}}")),
		chart(shape{title: "Flush time", unit: "s", about: "Time to flush a log to disk: median and 99th percentile."},
			q(`histogram_quantile(0.5, sum by (le) (rate(belfry_flush_duration_seconds_bucket{@broker}[$__rate_interval])))`, "median"),
			q(`histogram_quantile(0.99, sum by (le) (rate(belfry_flush_duration_seconds_bucket{@broker}[$__rate_interval])))`, "99 %")),
	)
}

func brokerHost(b *board, t Thresholds) {
	b.layout.row("Host", 4, 8,
		chart(percent(shape{title: "CPU", alarm: t.limit("broker_cpu_usage"), about: "CPU used on the node."}),
			q(`broker_cpu_usage{@broker}`, "broker {{kafka_broker}}")),
		chart(shape{title: "Load per core", unit: "none", min: number(0), alarm: t.limit("broker_cpu_core_load"), about: "Load average of one minute divided by the number of cores."},
			q(`broker_cpu_core_load{@broker}`, "broker {{kafka_broker}}")),
		chart(percent(shape{title: "Memory", alarm: t.limit("broker_memory_usage"), about: "Memory used on the node, and heap in use of the broker against its limit."}),
			q(`broker_memory_usage{@broker}`, "memory, broker {{kafka_broker}}"), q(`broker_heap_usage{@broker}`, "heap, broker {{kafka_broker}}")),
		chart(shape{title: "Agent", unit: "cps", about: "Trouble of the agent itself a second: lost periods, collectors that failed or came late."},
			q(`sum by (kafka_broker) (rate(belfry_ticks_missed_total{@broker}[$__rate_interval]))`, "periods lost, broker {{kafka_broker}}"),
			q(`sum by (collector) (rate(belfry_collector_timeouts_total{@broker}[$__rate_interval]))`, "{{collector}} late"),
			q(`sum by (collector) (rate(belfry_collector_errors_total{@broker}[$__rate_interval]))`, "{{collector}} failed")),
	)
}
