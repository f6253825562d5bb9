// Package quorum puts batches of metadata records in one order that all voters
// agree on, keeps them on disk, and folds them into the image of the cluster.
// It is the only room that knows the raft library.
//
// The road in: Propose encodes a batch, raft makes it durable on a majority, the
// state machine folds it into the next metadata.Image, every subscriber sees
// that image, Propose returns. The road out: Image and Subscribe.
//
// It is not: the decision what to propose (controller) or what a room does with
// an image (broker).
//
// # On disk
//
// Options.Dir belongs to this room alone:
//
//	lock                    held while the directory is open
//	state                   term, vote, list of log segments; two copies, see state.go
//	log/<first>-<id>.wal    log segments, preallocated
//	log/spare               the next segment, preallocated ahead
//	snapshots/<index>-<term>.snapshot   an image and what raft knows of it, see snapshots.go
//	snapshots/….snapshot.damaged        one that could not be read and was not needed
//
// # What a disk can do to us
//
//   - A crash at any time: a batch whose Propose returned is there afterwards; one
//     whose Propose did not return is there as a whole or not at all.
//   - A full disk: the state file and the current segment have their blocks
//     already, and so has the next segment. When the spare is used up and none
//     can be made, Propose refuses with ErrDiskFull before raft sees the batch;
//     it works again as soon as there is room. The process goes on.
//   - A failed write or fsync: nothing is tried again on that file (R19). Propose
//     fails with ErrFailed, Failed is closed, Run returns the error; the image
//     stays readable. The library would panic; the wrap in store.go holds it.
//   - Damage at rest: Open reads every snapshot and log entry before raft does. A
//     damaged snapshot is replaced by an older one only if the log still reaches
//     back to it; otherwise, and for a damaged or shortened log, Open refuses
//     and names file and remedy (R25). No damage ever makes an empty cluster.
//
// Invariant: the log never ends before the durable mark in the state file. It
// is how Open tells a torn tail (never acknowledged) from lost entries.
package quorum
