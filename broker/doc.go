// Package broker is one node of the cluster: it joins the rooms of the data road
// and runs them. It is the only package that sees every room, and it does nothing
// that a room could do.
//
// broker.go holds the parts and what the outside may ask of a node, lifecycle.go
// the order of start and stop, cluster.go how it forms or joins a cluster, attend.go
// how it registers, lives and takes leave there, road.go the way to the active
// controller, publish.go the order in which rooms learn of a change of the cluster,
// listen.go the addresses.
//
// # The life of a broker
//
// A node that has caught up with the metadata log registers with the active controller
// and gets its broker epoch, the index of that record; it is out of service (fenced). By
// epoch.go it says whether all that it had is there still: after a clean stop, and after
// the death of the process alone, because the page cache of the same boot outlives it.
// When it has seen its own registration it takes up its partitions, and its first
// heartbeat puts it into service. Every two seconds it says that it lives. A controller
// that has not heard it for nine takes it out of service; one whose connection to it
// ends looks at once whether its machine refuses a connection, and then does not wait
// (gone.go). Before it stops it says so: its leaderships go elsewhere, and it stops when
// the others have seen that.
//
// Everything that a node asks the controller goes within the process where the node is
// the controller itself; a node alone has no other road.
//
// # A large cluster, on paper
//
// TestScale plays one with the real controller, metadata, messages and, of one broker, the
// real partitions, without a network and with a disk in memory. Topics have 100 partitions
// of 3 replicas. Times are processor time, with the garbage collector's. 2026-11-23, 2 cores
// of an Intel Xeon (virtual), Go 1.26.8, linux/amd64, by
//
//	go test ./broker -run TestScale -v -args -scale.brokers 50 -scale.partitions 100000
//
//	                                              50 brokers, 10 000   50 brokers, 100 000 partitions
//	metadata log, to create a partition                         36 B                 36 B
//	image in memory, each node                               2.4 MiB               24 MiB
//	snapshot: size, write, read               355 KiB, 5 ms, 13 ms   3.4 MiB, 69 ms, 100 ms
//	a broker takes up its replicas                        593, 9 ms        5 958, 136 ms
//	registration, heartbeat                            123 B, 46 B          123 B, 46 B
//	heartbeats at the controller             25/s, 0.004 % of a core   25/s, 0.003 % of a core
//	a broker dies: new leaders, smaller in-sync sets       200, 593         2 000, 5 958
//	… the controller decides                 2.5 ms, 1 entry of 19 KiB   63 ms, 1 entry of 199 KiB
//	… every node folds, a broker follows             1.4 ms, 1.4 ms         42 ms, 32 ms
//	it comes back: controller, a broker follows      0.2 ms, 1.8 ms          7 ms, 45 ms
//	… every leader takes it in again, controller              9 ms               165 ms
//	… in 33 entries; every node folds, follows         7 ms, 1.3 ms        113 ms, 30 ms
//	one in-sync set changes: controller, fold, follow 10, 6, 3 µs          17, 10, 6 µs
//	a new controller looks at every partition                 4 ms                43 ms
//
// So a failover of 100 000 partitions takes what finding out takes – nothing when the process
// died, a session (9 s) when the machine is silent – and about 0.15 s.
//
// Invariant: the broker does not know that the agent exists. It writes numbers
// down (broker/stats), offers one brake (RefuseProduce) and one broom (FreeOldest).
package broker
