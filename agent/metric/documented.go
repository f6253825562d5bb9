package metric

// Instance: one series each in the whole cluster.
const (
	CurrentPartitions ID = "current_partitions"
	CurrentTopics     ID = "current_topics"
	GroupMsgs         ID = "group_msgs"
)

// Broker: one series a broker, labelled kafka_broker.
const (
	BrokerDataSize           ID = "broker_data_size"
	BrokerMessagesInRate     ID = "broker_messages_in_rate"
	BrokerBytesInRate        ID = "broker_bytes_in_rate"
	BrokerBytesOutRate       ID = "broker_bytes_out_rate"
	BrokerPublicBytesInRate  ID = "broker_public_bytes_in_rate"
	BrokerPublicBytesOutRate ID = "broker_public_bytes_out_rate"
	BrokerTotalBytesInRate   ID = "broker_total_bytes_in_rate"
	BrokerTotalBytesOutRate  ID = "broker_total_bytes_out_rate"
	BrokerProduceMean        ID = "broker_produce_mean"
	BrokerFetchMean          ID = "broker_fetch_mean"
	BrokerCPUCoreLoad        ID = "broker_cpu_core_load"
	BrokerCPUUsage           ID = "broker_cpu_usage"
	BrokerMemoryUsage        ID = "broker_memory_usage"
	BrokerHeapUsage          ID = "broker_heap_usage"
	BrokerDiskUsage          ID = "broker_disk_usage"
	BrokerDiskReadAwait      ID = "broker_disk_read_await"
	BrokerDiskWriteAwait     ID = "broker_disk_write_await"
	BrokerConnections        ID = "broker_connections"
	BrokerAlive              ID = "broker_alive"
)

// Topic: labelled kafka_topics, the last two kafka_partitions as well.
const (
	TopicBytesInRate    ID = "topic_bytes_in_rate"
	TopicBytesOutRate   ID = "topic_bytes_out_rate"
	TopicDataSize       ID = "topic_data_size"
	TopicMessages       ID = "topic_messages"
	TopicMessagesInRate ID = "topic_messages_in_rate"
	PartitionMessages   ID = "partition_messages"
	ProducedMessages    ID = "produced_messages"
)

// Consumer group: labelled kafka_groups and, from fine to coarse, kafka_topics
// and kafka_partitions.
const (
	MessagesConsumed         ID = "messages_consumed"
	MessagesRemained         ID = "messages_remained"
	TopicMessagesConsumed    ID = "topic_messages_consumed"
	TopicMessagesRemained    ID = "topic_messages_remained"
	ConsumerMessagesConsumed ID = "consumer_messages_consumed"
	ConsumerMessagesRemained ID = "consumer_messages_remained"
)
