// Package outage says what stopping one broker would cost its cluster: whether it is safe
// to stop it now, and if not, why not, counted and named.
//
// It is pure: what is known of the cluster goes in (cluster.Standing, by Kafka's protocol,
// so that any cluster of it will do), a Verdict comes out. It stops nothing.
//
// Safe means: no partition loses its leader or falls below min.insync.replicas, the
// metadata log keeps a majority, and nothing else is amiss that the broker might be needed
// for – no replica out of sync but its own, no other broker down or stopping, no move of
// partitions, no failed log directory elsewhere.
//
// Invariant: what is not known is never taken for good. A Verdict is of one moment: who
// stops several brokers asks before each of them, and not two at a time.
package outage
