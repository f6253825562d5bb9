// Package wire is bytes and order on sockets.
//
// A connection has one goroutine: it reads frames, decodes requests and hands them to the
// Handler in order. What is answered on the spot it sends itself, as far as the socket
// takes it without waiting; all else is sent by a second goroutine, which is there only
// while there is something to send. Between them lies a bounded queue of owed answers,
// which leave in the order of their requests, whenever they are ready. What a client sends
// is bounded and walked (shape.go) before it is decoded; when memory is short, nobody
// reads: that is the whole back-pressure. A connection that waits for its client has no
// buffer.
//
// The package knows the shape of requests but not their meaning; it authorises nothing.
//
// Invariant: answers leave in the order of their requests, and every Piece's Release is
// called exactly once.
package wire
