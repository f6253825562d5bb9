package dashboards

func topicBoard(t Thresholds) board {
	b := board{
		file: "topic.json", uid: topicUID, title: "Belfry / Topic",
		about:     "Topics: which one is large, busy or behind; then rates, partitions and who consumes.",
		variables: []variable{sourceVariable(), instanceVariable(), topicVariable(), groupVariable()},
	}
	b.layout.row("Topics", 1, 10,
		table(shape{title: "Topics", unit: "short", links: to("Only this topic", topicUID, "topic", "Topic"),
			about: "All chosen topics. Backlog is summed over the groups that consume the topic."},
			"kafka_topics", "Topic",
			column{"Bytes in", "Bps", `topic_bytes_in_rate{@topic}`},
			column{"Bytes out", "Bps", `topic_bytes_out_rate{@topic}`},
			column{"Messages in", "cps", `topic_messages_in_rate{@topic}`},
			column{"Messages", "short", `topic_messages{@topic}`},
			column{"Size", "bytes", `topic_data_size{@topic}`},
			column{"Partitions", "short", `count by (kafka_topics) (partition_messages{@topic})`},
			column{"Backlog", "short", `sum by (kafka_topics) (topic_messages_remained{@topic})`}),
	)
	only := lines("Only this topic", topicUID, "topic", "kafka_topics")
	b.layout.row("Rates", 3, 8,
		chart(shape{title: "Messages in", unit: "cps", links: only, about: "Messages produced a second."},
			q(`topic_messages_in_rate{@topic}`, "{{kafka_topics}}")),
		chart(shape{title: "Bytes in", unit: "Bps", links: only, about: "Bytes produced a second."},
			q(`topic_bytes_in_rate{@topic}`, "{{kafka_topics}}")),
		chart(shape{title: "Bytes out", unit: "Bps", links: only, about: "Bytes consumed a second."},
			q(`topic_bytes_out_rate{@topic}`, "{{kafka_topics}}")),
		chart(shape{title: "Requests", unit: "reqps", about: "Produce and fetch requests a second that touched the topic."},
			q(`sum by (kafka_topics) (rate(belfry_topic_produce_requests_total{@topic}[$__rate_interval]))`, "produce {{kafka_topics}}"),
			q(`sum by (kafka_topics) (rate(belfry_topic_fetch_requests_total{@topic}[$__rate_interval]))`, "fetch {{kafka_topics}}")),
		chart(shape{title: "Failed requests", unit: "reqps", about: "Produce and fetch requests a second that failed for the topic."},
			q(`sum by (kafka_topics) (rate(belfry_topic_failed_produce_requests_total{@topic}[$__rate_interval]))`, "produce {{kafka_topics}}"),
			q(`sum by (kafka_topics) (rate(belfry_topic_failed_fetch_requests_total{@topic}[$__rate_interval]))`, "fetch {{kafka_topics}}")),
		chart(shape{title: "Refused bytes", unit: "Bps", about: "Produced bytes a second that the broker refused: too large, not allowed, or no room."},
			q(`sum by (kafka_topics) (rate(belfry_topic_rejected_bytes_total{@topic}[$__rate_interval]))`, "{{kafka_topics}}")),
	)
	b.layout.row("Content", 3, 8,
		chart(shape{title: "Messages", unit: "short", min: number(0), links: only, about: "Messages in the topic now."},
			q(`topic_messages{@topic}`, "{{kafka_topics}}")),
		chart(shape{title: "Size", unit: "bytes", min: number(0), links: only, about: "Bytes of message data in the topic, as stored."},
			q(`topic_data_size{@topic}`, "{{kafka_topics}}")),
		chart(shape{title: "Fullest partitions", unit: "short", min: number(0), about: "The twenty partitions with most messages now. Uneven lines: keys that favour a partition."},
			q(`topk(20, partition_messages{@topic})`, "{{kafka_topics}} {{kafka_partitions}}")),
	)
	b.layout.row("Consumers", 2, 8,
		chart(shape{title: "Backlog by group", unit: "short", min: number(0), alarm: t.limit("topic_messages_remained"),
			links: lines("Group ${__field.labels.kafka_groups}", groupUID, "group", "kafka_groups"), about: "Messages of the topic that each group can still consume."},
			q(`topic_messages_remained{@both}`, "{{kafka_groups}} {{kafka_topics}}")),
		chart(shape{title: "Backlog in time", unit: "s", min: number(0), links: lines("Group ${__field.labels.kafka_groups}", groupUID, "group", "kafka_groups"),
			about: "Age of the oldest message that each group has still to consume."},
			q(`belfry_group_topic_lag_seconds{@both}`, "{{kafka_groups}} {{kafka_topics}}")),
	)
	return b
}
