// Package api speaks Kafka's protocol: one file per API translates a decoded
// request, asks the room that knows, and translates what it says back.
//
// It decides nothing about logs, groups or the cluster; it decides what a client
// may ask for (table.go), which of its batches may come in (produce.go), how long
// a fetch waits (fetch.go), and what every refusal is called in Kafka's words
// (errors.go, the only place with such a mapping).
//
// What changes the cluster is served by the active controller: a node that is not sends
// it on (forward.go) and answers when it has seen the change itself. What only brokers
// ask (forBrokers) is shown to nobody else.
//
// Invariant: every request is answered exactly once, and whatever a handler holds
// while it waits (file slices, watches, timers) is given back on every path.
//
// Road in: wire calls API.Serve in the order in which a connection sent its
// requests. Handlers that need the log or a group to move answer later, from
// another goroutine, so the connection goes on reading; handlers of management
// requests may hold the connection up. Road out: wire.Request.Answer.
package api
