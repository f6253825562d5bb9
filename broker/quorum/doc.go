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
// # Members
//
// Every node of a cluster has the log. Three or five of them vote; the others follow
// (raft's non-voters, Kafka's observers). A member is a node and its incarnation, a
// random number on its disk: "3-kmuIqlHWRkyVgZkYQ8ZQ3Q". A node whose disk is lost comes
// back as another member, so it can never vote twice or forget what it acknowledged.
//
//   - Forming (form.go): the first controllers promise each other to be exactly these
//     members. All of them must be up once; afterwards a majority is enough.
//   - Joining (enter.go, members.go): a node with a token asks any member, is led to the
//     leader, and becomes one that follows. It gets a snapshot and the log behind it.
//   - Voting: AddVoter once a member has caught up, RemoveVoter; one at a time, and never
//     so that fewer than a majority of the voters would answer.
//   - A node alone is a cluster of one voter without an incarnation and, unless
//     Options.Network says so, without a controller listener.
//
// The members talk over the controller listener (door.go): a greeting says whom one
// wants and of which cluster one is; then raft has the connection. There is no
// authentication but that: put it where only the cluster's nodes reach it.
//
// meter.go and push.go stand between raft and the network: they note how far each member
// is, and tell members of a commit at once. stall.go lets another voter lead when this
// one's disk hangs (R16).
//
// # On disk
//
// Options.Dir belongs to this room alone:
//
//	lock                    held while the directory is open
//	member                  who this node is in its cluster; none for a node alone, see member.go
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
//   - A write that hangs: a leader lets another voter lead after Options.Stall; a voter
//     fails after Options.StallEnd. A node alone waits.
//   - Damage at rest: Open reads every snapshot and log entry before raft does. A
//     damaged snapshot is replaced by an older one only if the log still reaches
//     back to it; otherwise, and for a damaged or shortened log, Open refuses
//     and names file and remedy (R25). No damage ever makes an empty cluster.
//   - A lost disk: the node is a stranger to its cluster. It is refused, and told how to
//     come back: its vote is taken away, and it joins with a token.
//
// Invariant: the log never ends before the durable mark in the state file. It
// is how Open tells a torn tail (never acknowledged) from lost entries.
//
// Invariant: of one list of first controllers never come two clusters, unless all of
// their disks were lost.
package quorum
