// Package chaos holds the tests that put a cluster of real processes through what can happen to machines and networks
// while producers, consumers and groups are at work, heal everything, read everything back, and prove that nothing that
// was acknowledged is lost, doubled, reordered or changed, that groups and transactions kept their promises, and that
// all replicas hold the same. It has no code of its own; what is compared stands in cmd/belfry/ledger.
//
// The tests run in a network and a mount namespace of their own, each node in a network namespace below it: a node has
// an address of its own, and the test is the router between them, which drops what a fault wants dropped. Each node
// lives on a file system of its own, an ext4 image in memory where the tests may mount one (as root), a tmpfs
// elsewhere. Nothing stays behind, whoever runs them and however they end.
//
// Faults: processes (kill -9 of one, of the controller, of two, of all, of one after the other; SIGSTOP for a moment and
// beyond the session; clean stops), the network (a leader alone, the controller alone, one link, everybody alone, one
// direction only, a loose or slow cable, lost packets), disks (power cuts, which take all that had not reached the
// image; a full disk; a slow one; slow and failing syncs, failing writes), damage (a flipped bit, a truncated file,
// under a node that runs and under one that does not), clocks that are set, storms of several at once.
//
// Load: idempotent producers, acks 0 and 1, transactions, a copy made exactly once, readers of all, groups; in the long
// form the Java client and librdkafka, too. Producers of transactions are outlived by others of the same ID, and groups
// are sent commits of generations that are over. librdkafka's idempotent producer takes one epoch for all partitions, and
// a new one when a request behind a refused one is out of order: what other leaders have taken and not answered yet it
// sends again under that, and no broker can tell. Such messages are counted and told, and are no findings.
//
// Clocks: a node that was built with the tag planted takes its wall clock from the system's and from a file that the
// test writes; a program built without it cannot have another clock than the system's.
//
// Planted bugs: a program with that tag breaks the rule that BELFRY_PLANTED names; TestPlantedBugsAreFound says how
// many of them TestChaos sees (BELFRY_CHAOS_PLANT picks one). BELFRY_CHAOS_FAULT names the faults of a run, separated
// by "; ", BELFRY_CHAOS_SEED makes it alike.
//
// Short form: some minutes. With BELFRY_LONG set faults go on for BELFRY_CHAOS_TIME (a duration, 1h by default), and
// BELFRY_CHAOS_REPORT names the file that tells of it: REPORT.md is the one of the last long run. What the nodes say lies
// beside it then; where something was not healed in time, what each goroutine was at, too.
package chaos
