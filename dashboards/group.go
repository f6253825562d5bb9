package dashboards

func groupBoard(t Thresholds) board {
	b := board{
		file: "group.json", uid: groupUID, title: "Belfry / Consumer group",
		about:     "Consumer groups: who is behind, by how many messages, by how much time, and does it get better.",
		variables: []variable{sourceVariable(), instanceVariable(), topicVariable(), groupVariable()},
	}
	b.layout.row("Groups", 1, 10,
		table(shape{title: "Groups", unit: "short", links: to("Only this group", groupUID, "group", "Group"),
			about: "All chosen groups, the one furthest behind first."},
			"kafka_groups", "Group",
			column{"Lag", "short", `consumer_messages_remained{@group}`},
			column{"Lag in time", "s", `max by (kafka_groups) (belfry_group_topic_lag_seconds{@group})`},
			column{"Members", "short", `belfry_group_members{@group}`},
			column{"Consumed", "short", `consumer_messages_consumed{@group}`},
			column{"Topics", "short", `count by (kafka_groups) (topic_messages_remained{@group})`}),
	)
	only := lines("Only this group", groupUID, "group", "kafka_groups")
	b.layout.row("Rates", 2, 8,
		chart(shape{title: "Consumed", unit: "cps", links: only, about: "Messages a second by which the committed offsets move. Below zero: the group was reset to the past."},
			q(`deriv(consumer_messages_consumed{@group}[$__rate_interval])`, "{{kafka_groups}}")),
		chart(shape{title: "Produced to its topics", unit: "cps", about: "Messages a second produced to the chosen topics: a group that consumes less falls behind."},
			q(`topic_messages_in_rate{@topic}`, "{{kafka_topics}}")),
	)
	b.layout.row("Lag", 2, 8,
		chart(shape{title: "Lag by group", unit: "short", min: number(0), links: only, about: "Messages that the group can still consume, over all its topics."},
			q(`consumer_messages_remained{@group}`, "{{kafka_groups}}")),
		chart(shape{title: "Lag by topic", unit: "short", min: number(0), alarm: t.limit("topic_messages_remained"),
			links: lines("Topic ${__field.labels.kafka_topics}", topicUID, "topic", "kafka_topics"), about: "Messages that the group can still consume, by topic."},
			q(`topic_messages_remained{@both}`, "{{kafka_groups}} {{kafka_topics}}")),
		chart(shape{title: "Partitions furthest behind", unit: "short", min: number(0), about: "The twenty partitions with most messages still to consume. One line above the others: a member that is stuck or a key that favours a partition."},
			q(`topk(20, messages_remained{@both})`, "{{kafka_groups}} {{kafka_topics}} {{kafka_partitions}}")),
		chart(shape{title: "Change of lag", unit: "cps", about: "Messages a second by which the lag grows (above zero) or shrinks (below)."},
			q(`deriv(consumer_messages_remained{@group}[$__rate_interval])`, "{{kafka_groups}}")),
	)
	b.layout.row("Lag in time", 2, 8,
		chart(shape{title: "Age of the oldest message to consume", unit: "s", min: number(0), about: "How long the oldest message that the group has not consumed has been waiting, by topic."},
			q(`belfry_group_topic_lag_seconds{@both}`, "{{kafka_groups}} {{kafka_topics}}")),
		chart(shape{title: "Members", unit: "short", min: number(0), links: only, about: "Members of the group. A group with lag and without members is not being consumed."},
			q(`belfry_group_members{@group}`, "{{kafka_groups}}")),
	)
	return b
}
