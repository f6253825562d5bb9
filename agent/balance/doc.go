// Package balance says which replicas of partitions should be where, so that every broker
// has as many as the others and leads as many, with as few bytes moved as that takes.
//
// It is pure: a Request goes in, Moves come out. Who carries them out asks the cluster for
// it by AlterPartitionReassignments, and any cluster of Kafka's protocol will do.
//
// Invariants of a plan: a partition has each broker once, and only brokers that were asked
// for; it has as many replicas as were asked for; as many racks hold it as can; a partition
// that need not change is not in it.
package balance
