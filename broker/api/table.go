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
	change bool // it changes the cluster: the active controller has to do it
}

type table map[int16]row

// served is the one list of APIs. What is not in it is not advertised.
func served() table {
	return table{
		kmsg.Produce.Int16():                      {13, (*API).produce, false},
		kmsg.Fetch.Int16():                        {18, (*API).fetch, false},
		kmsg.ListOffsets.Int16():                  {11, (*API).listOffsets, false},
		kmsg.Metadata.Int16():                     {13, (*API).metadata, false},
		kmsg.OffsetCommit.Int16():                 {10, (*API).offsetCommit, false},
		kmsg.OffsetFetch.Int16():                  {10, (*API).offsetFetch, false},
		kmsg.FindCoordinator.Int16():              {6, (*API).findCoordinator, false},
		kmsg.JoinGroup.Int16():                    {9, (*API).joinGroup, false},
		kmsg.Heartbeat.Int16():                    {4, (*API).heartbeat, false},
		kmsg.LeaveGroup.Int16():                   {5, (*API).leaveGroup, false},
		kmsg.SyncGroup.Int16():                    {5, (*API).syncGroup, false},
		kmsg.DescribeGroups.Int16():               {6, (*API).describeGroups, false},
		kmsg.ListGroups.Int16():                   {5, (*API).listGroups, false},
		kmsg.ApiVersions.Int16():                  {4, (*API).apiVersions, false},
		kmsg.CreateTopics.Int16():                 {7, (*API).createTopics, true},
		kmsg.DeleteTopics.Int16():                 {6, (*API).deleteTopics, true},
		kmsg.DeleteRecords.Int16():                {2, (*API).deleteRecords, false},
		kmsg.InitProducerID.Int16():               {5, (*API).initProducerID, false},
		kmsg.WriteTxnMarkers.Int16():              {1, (*API).writeTxnMarkers, false},
		kmsg.OffsetForLeaderEpoch.Int16():         {4, (*API).offsetForLeaderEpoch, false},
		kmsg.DescribeConfigs.Int16():              {4, (*API).describeConfigs, false},
		kmsg.AlterConfigs.Int16():                 {2, (*API).alterConfigs, true},
		kmsg.DescribeLogDirs.Int16():              {5, (*API).describeLogDirs, false},
		kmsg.CreatePartitions.Int16():             {3, (*API).createPartitions, true},
		kmsg.DeleteGroups.Int16():                 {2, (*API).deleteGroups, false},
		kmsg.IncrementalAlterConfigs.Int16():      {1, (*API).incrementalAlterConfigs, true},
		kmsg.OffsetDelete.Int16():                 {0, (*API).offsetDelete, false},
		kmsg.DescribeQuorum.Int16():               {2, (*API).describeQuorum, false},
		kmsg.DescribeProducers.Int16():            {0, (*API).describeProducers, false},
		kmsg.DescribeTopicPartitions.Int16():      {0, (*API).describeTopicPartitions, false},
		kmsg.ElectLeaders.Int16():                 {2, (*API).electLeaders, true},
		kmsg.AlterPartitionAssignments.Int16():    {1, (*API).alterPartitionAssignments, true},
		kmsg.ListPartitionReassignments.Int16():   {0, (*API).listPartitionReassignments, false},
		kmsg.UnregisterBroker.Int16():             {0, (*API).unregisterBroker, true},
		kmsg.DescribeTransactions.Int16():         {0, (*API).describeTransactions, false},
		kmsg.ListTransactions.Int16():             {2, (*API).listTransactions, false},
		kmsg.DescribeACLs.Int16():                 {3, (*API).describeACLs, false},
		kmsg.CreateACLs.Int16():                   {3, (*API).createACLs, true},
		kmsg.DeleteACLs.Int16():                   {3, (*API).deleteACLs, true},
		kmsg.DescribeUserSCRAMCredentials.Int16(): {0, (*API).describeUserSCRAMCredentials, false},
		kmsg.ListConfigResources.Int16():          {1, (*API).listConfigResources, false},
		kmsg.DescribeClientQuotas.Int16():         {1, (*API).describeClientQuotas, false},
		kmsg.AlterClientQuotas.Int16():            {1, (*API).alterClientQuotas, true},
		kmsg.GetTelemetrySubscriptions.Int16():    {0, (*API).getTelemetrySubscriptions, false},
		kmsg.PushTelemetry.Int16():                {0, (*API).pushTelemetry, false},
		kmsg.UpdateFeatures.Int16():               {2, (*API).updateFeatures, true},
		kmsg.DescribeCluster.Int16():              {2, (*API).describeCluster, false},
		kmsg.ConsumerGroupHeartbeat.Int16():       {1, (*API).consumerGroupHeartbeat, false},
		kmsg.ConsumerGroupDescribe.Int16():        {1, (*API).consumerGroupDescribe, false},
	}
}

// forBrokers is what only brokers ask of each other. It is served at every listener, but
// shown only to who says in ApiVersions that it is a broker (peer.Software).
func forBrokers() table {
	return table{
		kmsg.AlterPartition.Int16():      {3, (*API).alterPartition, false},
		kmsg.Envelope.Int16():            {0, (*API).envelope, false},
		kmsg.BrokerRegistration.Int16():  {4, (*API).brokerRegistration, false},
		kmsg.BrokerHeartbeat.Int16():     {2, (*API).brokerHeartbeat, false},
		kmsg.AllocateProducerIDs.Int16(): {0, (*API).allocateProducerIDs, false},
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

// of gives what is served to a session; nil stands for any.
func (a *API) of(s *wire.Session) table {
	if s == nil || s.Software == peer.Software {
		return a.brokers
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
