package api

import (
	"fmt"
	"maps"

	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/belfry-mq/belfry/broker/peer"
	"github.com/belfry-mq/belfry/broker/wire"
)

// row is one served API. The smallest version is 0 everywhere: old librdkafka
// tests for single versions and silently stops compressing when one is missing.
type row struct {
	max    int16
	handle func(*API, *wire.Request)
}

type table map[int16]row

// served is the one list of APIs. What is not in it is not advertised.
func served() table {
	return table{
		kmsg.Produce.Int16():                      {13, (*API).produce},
		kmsg.Fetch.Int16():                        {18, (*API).fetch},
		kmsg.ListOffsets.Int16():                  {11, (*API).listOffsets},
		kmsg.Metadata.Int16():                     {13, (*API).metadata},
		kmsg.OffsetCommit.Int16():                 {10, (*API).offsetCommit},
		kmsg.OffsetFetch.Int16():                  {10, (*API).offsetFetch},
		kmsg.FindCoordinator.Int16():              {6, (*API).findCoordinator},
		kmsg.JoinGroup.Int16():                    {9, (*API).joinGroup},
		kmsg.Heartbeat.Int16():                    {4, (*API).heartbeat},
		kmsg.LeaveGroup.Int16():                   {5, (*API).leaveGroup},
		kmsg.SyncGroup.Int16():                    {5, (*API).syncGroup},
		kmsg.DescribeGroups.Int16():               {6, (*API).describeGroups},
		kmsg.ListGroups.Int16():                   {5, (*API).listGroups},
		kmsg.ApiVersions.Int16():                  {4, (*API).apiVersions},
		kmsg.CreateTopics.Int16():                 {7, (*API).createTopics},
		kmsg.DeleteTopics.Int16():                 {6, (*API).deleteTopics},
		kmsg.DeleteRecords.Int16():                {2, (*API).deleteRecords},
		kmsg.InitProducerID.Int16():               {5, (*API).initProducerID},
		kmsg.AddPartitionsToTxn.Int16():           {5, (*API).addPartitionsToTxn},
		kmsg.AddOffsetsToTxn.Int16():              {4, (*API).addOffsetsToTxn},
		kmsg.EndTxn.Int16():                       {5, (*API).endTxn},
		kmsg.TxnOffsetCommit.Int16():              {5, (*API).txnOffsetCommit},
		kmsg.WriteTxnMarkers.Int16():              {2, (*API).writeTxnMarkers},
		kmsg.OffsetForLeaderEpoch.Int16():         {4, (*API).offsetForLeaderEpoch},
		kmsg.DescribeConfigs.Int16():              {4, (*API).describeConfigs},
		kmsg.AlterConfigs.Int16():                 {2, (*API).alterConfigs},
		kmsg.AlterReplicaLogDirs.Int16():          {2, (*API).alterReplicaLogDirs},
		kmsg.DescribeLogDirs.Int16():              {5, (*API).describeLogDirs},
		kmsg.CreatePartitions.Int16():             {3, (*API).createPartitions},
		kmsg.DeleteGroups.Int16():                 {2, (*API).deleteGroups},
		kmsg.IncrementalAlterConfigs.Int16():      {1, (*API).incrementalAlterConfigs},
		kmsg.OffsetDelete.Int16():                 {0, (*API).offsetDelete},
		kmsg.DescribeQuorum.Int16():               {2, (*API).describeQuorum},
		kmsg.AddRaftVoter.Int16():                 {1, (*API).addRaftVoter},
		kmsg.RemoveRaftVoter.Int16():              {0, (*API).removeRaftVoter},
		kmsg.DescribeProducers.Int16():            {0, (*API).describeProducers},
		kmsg.DescribeTopicPartitions.Int16():      {0, (*API).describeTopicPartitions},
		kmsg.ElectLeaders.Int16():                 {2, (*API).electLeaders},
		kmsg.AlterPartitionAssignments.Int16():    {1, (*API).alterPartitionAssignments},
		kmsg.ListPartitionReassignments.Int16():   {0, (*API).listPartitionReassignments},
		kmsg.UnregisterBroker.Int16():             {0, (*API).unregisterBroker},
		kmsg.DescribeTransactions.Int16():         {0, (*API).describeTransactions},
		kmsg.ListTransactions.Int16():             {2, (*API).listTransactions},
		kmsg.DescribeACLs.Int16():                 {3, (*API).describeACLs},
		kmsg.CreateACLs.Int16():                   {3, (*API).createACLs},
		kmsg.DeleteACLs.Int16():                   {3, (*API).deleteACLs},
		kmsg.DescribeUserSCRAMCredentials.Int16(): {0, (*API).describeUserSCRAMCredentials},
		kmsg.ListConfigResources.Int16():          {1, (*API).listConfigResources},
		kmsg.DescribeClientQuotas.Int16():         {1, (*API).describeClientQuotas},
		kmsg.AlterClientQuotas.Int16():            {1, (*API).alterClientQuotas},
		kmsg.GetTelemetrySubscriptions.Int16():    {0, (*API).getTelemetrySubscriptions},
		kmsg.PushTelemetry.Int16():                {0, (*API).pushTelemetry},
		kmsg.UpdateFeatures.Int16():               {2, (*API).updateFeatures},
		kmsg.DescribeCluster.Int16():              {2, (*API).describeCluster},
		kmsg.ConsumerGroupHeartbeat.Int16():       {1, (*API).consumerGroupHeartbeat},
		kmsg.ConsumerGroupDescribe.Int16():        {1, (*API).consumerGroupDescribe},
	}
}

// changes tells of the APIs that change the cluster: the active controller has to serve
// them. Those about the quorum itself are among them, for only its leader knows how far
// the others are.
func changes(key int16) bool {
	switch key {
	case kmsg.CreateTopics.Int16(), kmsg.DeleteTopics.Int16(), kmsg.CreatePartitions.Int16(),
		kmsg.AlterConfigs.Int16(), kmsg.IncrementalAlterConfigs.Int16(), kmsg.AlterClientQuotas.Int16(),
		kmsg.ElectLeaders.Int16(), kmsg.AlterPartitionAssignments.Int16(), kmsg.UnregisterBroker.Int16(),
		kmsg.UpdateFeatures.Int16(), kmsg.DescribeQuorum.Int16(), kmsg.AddRaftVoter.Int16(), kmsg.RemoveRaftVoter.Int16():
		return true
	}
	return false
}

// forBrokers is what only brokers ask of each other. It is served at every listener, but
// shown only to who says in ApiVersions that it is a broker (peer.Software).
func forBrokers() table {
	return table{
		kmsg.AlterPartition.Int16():      {3, (*API).alterPartition},
		kmsg.Envelope.Int16():            {0, (*API).envelope},
		kmsg.BrokerRegistration.Int16():  {4, (*API).brokerRegistration},
		kmsg.BrokerHeartbeat.Int16():     {2, (*API).brokerHeartbeat},
		kmsg.AllocateProducerIDs.Int16(): {0, (*API).allocateProducerIDs},
	}
}

// tables gives what is served to clients of an instance of a Kafka version, and what to
// brokers: they are of this program's version, whatever is shown to clients.
func tables(version string) (clients, brokers table, err error) {
	if clients, err = newTable(version); err != nil {
		return nil, nil, err
	}
	brokers = served()
	maps.Copy(brokers, forBrokers())
	return clients, brokers, nil
}

// of gives what is served to a session; nil stands for any. Why more to the agent: what it
// asks for is as new as this program, whatever an instance of an older version shows.
func (a *API) of(s *wire.Session) table {
	switch {
	case s == nil || s.Software == peer.Software:
		return a.brokers
	case s.Software == Agent:
		return a.agents
	}
	return a.table
}

// newTable gives what is served by an instance of a Kafka version: everything
// up to the versions that this release of Kafka knew.
func newTable(version string) (table, error) {
	t := served()
	caps, err := release(version)
	if err != nil || caps == nil {
		return t, err
	}
	for key, r := range t {
		max, ok := caps.LookupMaxKeyVersion(key)
		if !ok {
			delete(t, key)
			continue
		}
		r.max = min(r.max, max)
		t[key] = r
	}
	return t, nil
}

// release finds the API versions of a Kafka release; nil is "no cap".
func release(version string) (*kversion.Versions, error) {
	if version == "" || version == "newest" {
		return nil, nil
	}
	if v := kversion.FromString(version); v != nil {
		return v, nil
	}
	return nil, fmt.Errorf("cannot cap the instance to Kafka version %q: no such release is known; use 1.1.0, 2.3.0, 2.7 or newest", version)
}
