// Package broker is one node of the cluster: it joins the rooms of the data road
// and runs them. It is the only package that sees every room, and it does nothing
// that a room could do.
//
// broker.go holds the parts and what the outside may ask of a node, lifecycle.go
// the order of start and stop, publish.go the order in which rooms learn of a
// change of the cluster, listen.go the addresses.
//
// Invariant: the broker does not know that the agent exists. It writes numbers
// down (broker/stats), offers one brake (RefuseProduce) and one broom (FreeOldest).
package broker
