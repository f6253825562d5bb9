package bench

import (
	"fmt"

	"github.com/belfry-mq/belfry/cmd/belfry/bench/peer"
)

// Identities of the lines about three nodes.
const (
	idClusterProduce = "cluster.produce"
	idClusterDefault = "cluster.produce.default"
	idClusterCPU     = "cluster.produce.cpu"
	idClusterE2E     = "cluster.e2e.p99"
	idClusterIdle    = "cluster.memory.idle"
	idClusterLoad    = "cluster.memory.load"

	idKillP50        = "cluster.kill.p50"
	idKillMax        = "cluster.kill.max"
	idKillDefaultP50 = "cluster.kill.default.p50"
	idKillDefaultMax = "cluster.kill.default.max"
	idStopFailed     = "cluster.stop.failed"
	idStopP50        = "cluster.stop.p50"
	idStopMax        = "cluster.stop.max"

	idManyCreate   = "cluster.many.create"
	idManyRestart  = "cluster.many.restart"
	idManyRecover  = "cluster.many.recover"
	idManyFailover = "cluster.many.failover"
	idManyMemory   = "cluster.many.memory"
	idManyCPU      = "cluster.many.cpu"
)

// clusterLines are the lines about three nodes, whose names begin alike.
func clusterLines(o Options) []Line {
	many := fmt.Sprintf("%d partitions × %d", o.ClusterPartitions, peer.ClusterSize)
	half := 1.0 / 2
	all := []Line{
		{ID: idClusterProduce, Name: "produce, 3 replicas, acks=all, 1 KB", Unit: mbs, Goal: 1.5},
		{ID: idClusterDefault, Name: "the same with min.insync.replicas=1 instead of 2: every node of ours flushes first, Kafka's do not", Unit: mbs},
		{ID: idClusterCPU, Name: "brokers' CPU, produce", Unit: "s/GB", Lower: true},
		{ID: idClusterE2E, Name: fmt.Sprintf("end-to-end time at %d msg/s, p99", o.EndToEndRate), Unit: ms, Lower: true, Goal: 1.0 / 3},
		{ID: idClusterIdle, Name: "memory of all, idle", Unit: mib, Lower: true, Goal: 1.0 / 6},
		{ID: idClusterLoad, Name: "memory of all, under load", Unit: mib, Lower: true, Goal: 1.0 / 6},
		{ID: idKillP50, Name: "no writes after kill -9 of a leader, equal time-outs, p50", Unit: ms, Lower: true, Goal: half},
		{ID: idKillMax, Name: "no writes after kill -9 of a leader, equal time-outs, longest", Unit: ms, Lower: true, Goal: half, Largest: true},
		{ID: idKillDefaultP50, Name: "no writes after kill -9 of a leader, each one's default time-outs, p50", Unit: ms, Lower: true, Goal: half},
		{ID: idKillDefaultMax, Name: "no writes after kill -9 of a leader, each one's default time-outs, longest", Unit: ms, Lower: true, Goal: half, Largest: true},
		{ID: idStopFailed, Name: "planned stop of a leader: failed", Unit: "messages", Lower: true, Zero: true, Largest: true},
		{ID: idStopP50, Name: "planned stop of a leader: pause, p50", Unit: ms, Lower: true, Goal: 1.0 / 4},
		{ID: idStopMax, Name: "planned stop of a leader: pause, longest", Unit: ms, Lower: true, Goal: 1.0 / 4, Largest: true},
		{ID: idManyCreate, Name: many + ": create", Unit: ms, Lower: true, Goal: half},
		{ID: idManyRestart, Name: many + ": start of a stopped node until all are in sync", Unit: ms, Lower: true, Goal: half},
		{ID: idManyFailover, Name: many + ": kill -9 of a node until all take writes", Unit: ms, Lower: true, Goal: half},
		{ID: idManyRecover, Name: many + ": start of the killed node until all are in sync", Unit: ms, Lower: true, Goal: half},
		{ID: idManyMemory, Name: many + ": memory of all, idle", Unit: mib, Lower: true},
		{ID: idManyCPU, Name: many + ": CPU of all, idle", Unit: "% of a core", Lower: true},
	}
	for i := range all {
		all[i].Section, all[i].Name = sectionCluster, "3 nodes: "+all[i].Name
	}
	return all
}
