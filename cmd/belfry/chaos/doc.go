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
// Short form: some minutes. With BELFRY_LONG set faults go on for BELFRY_CHAOS_TIME (a duration, 1h by default).
package chaos
