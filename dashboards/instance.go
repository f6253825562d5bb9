package dashboards

func instanceBoard(t Thresholds) board {
	b := board{
		file: "instance.json", uid: instanceUID, title: "Belfry / Instance",
		about:     "One instance as a whole: is it well, what goes through, and which broker stands out.",
		variables: []variable{sourceVariable(), instanceVariable(), brokerVariable()},
	}
	none := &limit{value: 1}
	b.layout.row("Health", 8, 4,
		stat(shape{title: "Alarms", unit: "none", bad: none, links: []link{{Title: "Alarms", URL: "/d/" + alarmUID + "?${datasource:queryparam}&${instance:queryparam}&${__url_time_range}"}},
			about: "Alarms that are firing now, the watchdog left out."},
			`sum(belfry_alarms{@instance,severity!="info"}) or vector(0)`),
		stat(shape{title: "Brokers offline", unit: "none", bad: none, about: "Registered brokers that do not answer."},
			`count(broker_alive{@instance}) - sum(broker_alive{@instance})`),
		stat(shape{title: "Partitions offline", unit: "none", bad: none, about: "Partitions without a leader: they can be neither written nor read."},
			`max(belfry_offline_partitions{@instance})`),
		stat(shape{title: "Under-replicated", unit: "none", bad: none, about: "Partitions with fewer replicas in sync than assigned."},
			`max(belfry_under_replicated_partitions{@instance})`),
		stat(percent(shape{title: "Fullest disk", alarm: t.limit("broker_disk_usage"), about: "Disk usage of the broker whose data disk is fullest. Red where its alarm fires."}),
			`max(broker_disk_usage{@instance})`),
		stat(shape{title: "Backlog", unit: "short", about: "Messages not yet consumed, summed over all consumer groups."},
			`max(group_msgs{@instance})`),
		stat(shape{title: "Partitions", unit: "short", about: "Partitions in use in the instance."}, `max(current_partitions{@instance})`),
		stat(shape{title: "Topics", unit: "short", about: "Topics that exist in the instance."}, `max(current_topics{@instance})`),
	)
	toBroker := lines("Broker ${__field.labels.kafka_broker}", brokerUID, "broker", "kafka_broker")
	b.layout.row("Throughput", 3, 8,
		chart(shape{title: "Messages in", unit: "cps", stacked: true, links: toBroker, about: "Messages produced a second, by broker."},
			q(`sum by (kafka_broker) (broker_messages_in_rate{@broker})`, "broker {{kafka_broker}}")),
		chart(shape{title: "Bytes in", unit: "Bps", stacked: true, links: toBroker, about: "Bytes that clients produced a second, by broker, without replication."},
			q(`sum by (kafka_broker) (broker_bytes_in_rate{@broker})`, "broker {{kafka_broker}}")),
		chart(shape{title: "Bytes out", unit: "Bps", stacked: true, links: toBroker, about: "Bytes that clients consumed a second, by broker, without replication."},
			q(`sum by (kafka_broker) (broker_bytes_out_rate{@broker})`, "broker {{kafka_broker}}")),
		chart(shape{title: "Busiest topics", unit: "Bps", links: lines("Topic ${__field.labels.kafka_topics}", topicUID, "topic", "kafka_topics"), about: "The ten topics with most bytes produced a second."},
			q(`topk(10, topic_bytes_in_rate{@instance})`, "{{kafka_topics}}")),
		chart(shape{title: "Backlog", unit: "short", alarm: t.limit("group_msgs"), about: "Messages not yet consumed: all groups together, and the ten groups that are furthest behind."},
			q(`max(group_msgs{@instance})`, "all groups"), q(`topk(10, consumer_messages_remained{@instance})`, "{{kafka_groups}}")),
		chart(shape{title: "Message data", unit: "bytes", stacked: true, links: toBroker, about: "Bytes of message data kept, by broker."},
			q(`sum by (kafka_broker) (broker_data_size{@broker})`, "broker {{kafka_broker}}")),
	)
	b.layout.row("Replication", 3, 7,
		chart(shape{title: "Partitions in trouble", unit: "short", alarm: t.limit("belfry_under_replicated_partitions"), about: "Partitions without a leader, and partitions with fewer replicas in sync than assigned."},
			q(`max(belfry_offline_partitions{@instance})`, "offline"), q(`max(belfry_under_replicated_partitions{@instance})`, "under-replicated")),
		chart(shape{title: "Data directories offline", unit: "short", alarm: t.limit("belfry_offline_log_dirs"), links: toBroker, about: "Data directories that a broker took offline after a disk error."},
			q(`sum by (kafka_broker) (belfry_offline_log_dirs{@broker})`, "broker {{kafka_broker}}")),
		chart(shape{title: "Brokers", unit: "short", min: number(0), about: "Brokers that are registered and brokers that answer."},
			q(`max(belfry_brokers{@instance})`, "registered"), q(`sum(broker_alive{@instance})`, "alive")),
	)
	b.layout.row("Request time", 2, 8,
		chart(shape{title: "Produce, mean", unit: "ms", links: toBroker, about: "Mean time to serve a produce request, by broker."},
			q(`broker_produce_mean{@broker}`, "broker {{kafka_broker}}")),
		chart(shape{title: "Fetch, mean", unit: "ms", links: toBroker, about: "Mean time to serve a fetch request, waiting for data included, by broker."},
			q(`broker_fetch_mean{@broker}`, "broker {{kafka_broker}}")),
	)
	b.layout.row("Hosts", 4, 8,
		chart(percent(shape{title: "CPU", alarm: t.limit("broker_cpu_usage"), links: toBroker, about: "CPU used on the node. The line is where the alarm fires."}),
			q(`broker_cpu_usage{@broker}`, "broker {{kafka_broker}}")),
		chart(shape{title: "Load per core", unit: "none", min: number(0), alarm: t.limit("broker_cpu_core_load"), links: toBroker, about: "Load average of one minute divided by the number of cores."},
			q(`broker_cpu_core_load{@broker}`, "broker {{kafka_broker}}")),
		chart(percent(shape{title: "Memory", alarm: t.limit("broker_memory_usage"), links: toBroker, about: "Memory used on the node."}),
			q(`broker_memory_usage{@broker}`, "broker {{kafka_broker}}")),
		chart(percent(shape{title: "Disk", alarm: t.limit("broker_disk_usage"), links: toBroker, about: "Share of the data disk in use."}),
			q(`broker_disk_usage{@broker}`, "broker {{kafka_broker}}")),
	)
	return b
}
