// Package roll restarts the brokers of a cluster one after the other, so that nothing that
// a client with the usual patience does fails: it waits until a broker is safe to stop
// (agent/outage), has it restarted, waits until it is back and in sync, and has the
// partitions led by their preferred replicas again. The active controller comes last, so
// that there is one election and not several.
//
// What is to be done next is decided by pure functions of what the cluster says and of the
// progress (next.go); Run does it. How a broker is restarted is not its business.
//
// Invariants: no broker is restarted while it is not safe, but for the reasons that the
// caller takes upon himself; the progress is on disk before anything is stopped, so that a
// second Run goes on where the first one ended.
package roll
