// Package chaos holds the tests that put a cluster of real processes through what can happen to machines and networks
// – killed, stopped for longer than a session, cut off from each other in part or in one direction only – while
// producers, consumers and groups are at work, heal everything, read everything back, and prove that nothing that was
// acknowledged is lost, doubled, reordered or changed, and that all replicas hold the same bytes. It has no code of
// its own; what is compared stands in cmd/belfry/ledger.
//
// The tests run in a network and a mount namespace of their own, each node in a network namespace below it: a node has
// an address of its own, and the test is the router between them, which drops what a fault wants dropped. Nothing
// stays behind, whoever runs them and however they end.
//
// Faults: processes (kill -9 of one, of the controller, of two, of all, of one after the other; SIGSTOP for a moment and
// beyond the session; clean stops), the network (a leader alone, the controller alone, one link, everybody alone, one
// direction only, a loose cable), disks (power cuts that forget what was not synced, a full disk, slow and failing
// syncs), storms of several at once. Load: idempotent producers, acks 0 and 1, transactions, a copy made
// exactly once, readers of all, groups.
//
// Planted bugs: a program built with the tag planted breaks the rule that BELFRY_PLANTED names; TestPlantedBugsAreFound
// says how many of them TestChaos sees. BELFRY_CHAOS_FAULT names the faults of a run, BELFRY_CHAOS_SEED makes it alike.
//
// Short form: some minutes. With BELFRY_LONG set faults go on for BELFRY_CHAOS_TIME (a duration, 1h by default).
package chaos
