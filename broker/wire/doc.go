// Package wire is bytes and order on sockets.
//
// A connection has two goroutines: one reads frames, decodes requests and hands them to
// the Handler in order, the other sends answers in the order of their requests, whenever
// they are ready. Between them lies a bounded queue of owed answers. What a client sends
// is bounded and walked (shape.go) before it is decoded; when memory is short, nobody
// reads: that is the whole back-pressure.
//
// The package knows the shape of requests but not their meaning; it authorises nothing.
//
// Invariant: answers leave in the order of their requests, and every Piece's Release is
// called exactly once.
package wire
