// Package dashboards makes the Grafana boards that ship with the program: instance, broker, topic, consumer group, alarms.
//
// The boards are Go (boards.go and one file a board); Make turns them into JSON; what it gives is committed under grafana/
// and embedded, and a test compares both. It is not a general builder: it can say what our boards say.
//
// Every board reads from the left top: is it well (a strip of figures), what goes through, then causes, down to the host;
// topics and groups begin with a table. Variables follow from each other: datasource → instance → broker → topic → group.
//
// Invariant: each panel has a unit and a description, asks one data source, the variable, and names only metrics of the
// catalogue (agent/metric) in a way that suits their kind. The tests hold it.
package dashboards
