package metric

// liveMetrics are read from the broker's and the process's own numbers when they
// are scraped, at whatever resolution the scraper has. They are in no snapshot.
// What names them is where they are counted; a test of the agent compares both.
func liveMetrics() []Metric {
	const (
		api, broker, code = "api", LabelBroker, "code"
		listener, reason  = "listener", "reason"
	)
	topic := []string{LabelBroker, LabelTopic}
	count := func(id ID, unit, help string, labels ...string) Metric {
		return Metric{ID: id, Help: help, Unit: unit, Counter: true, Live: true, Labels: labels}
	}
	hist := func(id ID, help string, labels ...string) Metric {
		return Metric{ID: id, Help: help, Unit: "s", Histogram: true, Live: true, Labels: labels}
	}
	return in(GroupOwn, []Metric{
		hist("belfry_request_duration_seconds", "Time from reading a request to handing over its answer, waiting included.", api, broker),
		hist("belfry_request_local_duration_seconds", "Time that the broker worked on a request, waiting for data or replicas not included.", api, broker),
		count("belfry_request_errors_total", "count", "Requests answered with an error code.", api, code, broker),
		count("belfry_request_bytes_total", "byte", "Bytes of requests received.", api, broker),
		count("belfry_response_bytes_total", "byte", "Bytes of answers sent.", api, broker),
		count("belfry_in_bytes_total", "byte", "Bytes produced by clients.", broker),
		count("belfry_out_bytes_total", "byte", "Bytes consumed by clients.", broker),
		count("belfry_in_messages_total", "count", "Messages produced by clients.", broker),
		count("belfry_topic_in_bytes_total", "byte", "Bytes produced to the topic by clients.", topic...),
		count("belfry_topic_out_bytes_total", "byte", "Bytes consumed from the topic by clients.", topic...),
		count("belfry_topic_in_messages_total", "count", "Messages produced to the topic by clients.", topic...),
		count("belfry_topic_produce_requests_total", "count", "Produce requests that touched the topic.", topic...),
		count("belfry_topic_fetch_requests_total", "count", "Fetch requests that touched the topic.", topic...),
		count("belfry_topic_failed_produce_requests_total", "count", "Produce requests that failed for the topic.", topic...),
		count("belfry_topic_failed_fetch_requests_total", "count", "Fetch requests that failed for the topic.", topic...),
		count("belfry_topic_rejected_bytes_total", "byte", "Produced bytes that were refused.", topic...),
		{ID: "belfry_connections", Help: "Open connections.", Unit: "count", Live: true, Labels: []string{broker, listener}},
		count("belfry_connections_accepted_total", "count", "Connections accepted.", broker, listener),
		count("belfry_connections_refused_total", "count", "Connections refused.", broker, listener),
		count("belfry_listener_in_bytes_total", "byte", "All bytes received on the listener's sockets.", broker, listener),
		count("belfry_listener_out_bytes_total", "byte", "All bytes sent on the listener's sockets.", broker, listener),
		hist("belfry_flush_duration_seconds", "Time to flush a log to disk.", broker),
		count("belfry_flush_errors_total", "count", "Flushes that failed.", broker),
		count("belfry_isr_shrinks_total", "count", "In-sync sets of led partitions that lost a member.", broker),
		count("belfry_isr_expands_total", "count", "In-sync sets of led partitions that got a member.", broker),
		count("belfry_replication_in_bytes_total", "byte", "Bytes of records fetched from leaders.", broker),
		count("belfry_replication_out_bytes_total", "byte", "Bytes of records fetched by followers.", broker),
		count("belfry_replication_limited_in_bytes_total", "byte", "Bytes of records fetched from leaders that count for follower.replication.throttled.rate.", broker),
		count("belfry_replication_limited_out_bytes_total", "byte", "Bytes of records fetched by followers that count for leader.replication.throttled.rate.", broker),
		{ID: "belfry_led_partitions", Help: "Partitions that this broker leads.", Unit: "count", Live: true, Labels: []string{broker}},
		{ID: "belfry_led_under_replicated_partitions", Help: "Led partitions with fewer replicas in sync than assigned.", Unit: "count", Live: true, Labels: []string{broker}},
		{ID: "belfry_led_under_min_isr_partitions", Help: "Led partitions with fewer replicas in sync than min.insync.replicas.", Unit: "count", Live: true, Labels: []string{broker}},
		{ID: "belfry_replica_max_lag_messages", Help: "Messages that the slowest replica of any led partition lacks.", Unit: "count", Live: true, Labels: []string{broker}},
		count("belfry_deleted_bytes_total", "byte", "Bytes of message data deleted, by reason.", broker, reason),
	})
}
