package stats

// maxAPIKey is the largest API key that has a name here; larger ones are counted
// together.
const maxAPIKey = 75

// apiName gives the API's name as Kafka's protocol guide writes it.
// Source: Kafka protocol guide, API keys.
func apiName(key int16) string {
	if key < 0 || key > maxAPIKey {
		return "Unknown"
	}
	return apiNames[key]
}

// apiNames is read only.
var apiNames = [maxAPIKey + 1]string{
	"Produce", "Fetch", "ListOffsets", "Metadata",
	"LeaderAndIsr", "StopReplica", "UpdateMetadata", "ControlledShutdown",
	"OffsetCommit", "OffsetFetch", "FindCoordinator", "JoinGroup",
	"Heartbeat", "LeaveGroup", "SyncGroup", "DescribeGroups",
	"ListGroups", "SaslHandshake", "ApiVersions", "CreateTopics",
	"DeleteTopics", "DeleteRecords", "InitProducerId", "OffsetForLeaderEpoch",
	"AddPartitionsToTxn", "AddOffsetsToTxn", "EndTxn", "WriteTxnMarkers",
	"TxnOffsetCommit", "DescribeAcls", "CreateAcls", "DeleteAcls",
	"DescribeConfigs", "AlterConfigs", "AlterReplicaLogDirs", "DescribeLogDirs",
	"SaslAuthenticate", "CreatePartitions", "CreateDelegationToken", "RenewDelegationToken",
	"ExpireDelegationToken", "DescribeDelegationToken", "DeleteGroups", "ElectLeaders",
	"IncrementalAlterConfigs", "AlterPartitionReassignments", "ListPartitionReassignments", "OffsetDelete",
	"DescribeClientQuotas", "AlterClientQuotas", "DescribeUserScramCredentials", "AlterUserScramCredentials",
	"Vote", "BeginQuorumEpoch", "EndQuorumEpoch", "DescribeQuorum",
	"AlterPartition", "UpdateFeatures", "Envelope", "FetchSnapshot",
	"DescribeCluster", "DescribeProducers", "BrokerRegistration", "BrokerHeartbeat",
	"UnregisterBroker", "DescribeTransactions", "ListTransactions", "AllocateProducerIds",
	"ConsumerGroupHeartbeat", "ConsumerGroupDescribe", "ControllerRegistration", "GetTelemetrySubscriptions",
	"PushTelemetry", "AssignReplicasToDirs", "ListConfigResources", "DescribeTopicPartitions",
}
