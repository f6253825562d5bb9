// Package storage keeps partition logs on disk.
//
// A Store owns the log directories of the node; each holds one folder a Log, and a
// Log is a row of segments of record batches with sparse indexes beside them, in
// Kafka's formats (FORMAT.md has all of them and says what survives a crash).
// The room knows nothing of leaders, requests or topics' names beyond printing them:
// broker/replica decides what may be appended, read and counted as durable.
//
// Invariant: a batch that Durable covers is found again, unchanged, after power was
// lost at any point; what is served was checked; a directory whose disk failed once
// is not written again.
//
// Of transactions it knows what the bytes say: where one begins, its marker, which were
// aborted (FORMAT.md). Who may write a marker, and what is committed, others decide.
//
// Road in: Append → sequences judged, offsets given → one write to the active
// segment → End, and by the group commit of flush.go later Durable. Road out: Read →
// position by index → a Slice of the segment's file that the socket sends.
package storage
