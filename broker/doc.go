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
// Invariant: the broker does not know that the agent exists. It writes numbers
// down (broker/stats), offers one brake (RefuseProduce) and one broom (FreeOldest).
package broker
