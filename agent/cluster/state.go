package cluster

import (
	"time"

	"github.com/belfry-mq/belfry/broker/stats"
)

// Unknown stands for an offset that could not be read.
const Unknown int64 = -1

// State is what one pass saw. Read only. Slices are sorted by ID or name.
type State struct {
	// Committed is when the committed offsets were read, Ended when the end offsets
	// were; both with a monotonic reading.
	Committed, Ended time.Time

	ClusterID  string
	Controller int32 // −1 when there is none
	Brokers    []Broker
	Topics     []Topic

	// GroupsKnown is false when the list of groups could not be read in full: a
	// group that is not in Groups may then still exist.
	GroupsKnown bool
	Groups      []Group

	LogDirs []LogDirs // of each broker that answered
}

// Broker is a broker that is alive: the cluster hands out its address.
type Broker struct {
	ID   int32
	Host string
	Port int32
	Rack string
}

// Topic is one topic with all partitions that could be seen.
type Topic struct {
	Name       string
	ID         [16]byte // zero where the cluster has no topic IDs
	Internal   bool
	Partitions []Partition
}

// Partition is one partition. Leader is −1 when it is offline; Start and End are
// Unknown when they could not be read.
type Partition struct {
	ID                     int32
	Leader                 int32
	Replicas, ISR, Offline []int32
	Start, End             int64
}

// Group is one consumer group.
type Group struct {
	Name        string
	State       string // as the broker calls it; "" where it does not say
	Coordinator int32
	Members     int // −1 when it could not be read
	// Known is false when the committed offsets could not be read.
	Known   bool
	Commits []Commit // by topic, then partition
}

// Commit is the offset that a group committed for a partition.
type Commit struct {
	Topic     string
	Partition int32
	Offset    int64
}

// LogDirs is what one broker keeps on disk.
type LogDirs struct {
	Broker  int32
	Dirs    []LogDir
	Traffic *stats.Traffic // what it has counted of its clients; nil where it does not tell
}

// LogDir is one data directory. Bytes are of message data, not of the disk.
type LogDir struct {
	Path     string
	Err      error // the broker took it offline
	Replicas []Replica
}

// Replica is one partition's copy in a directory. Future marks a copy that is on
// its way from another directory of the same broker.
type Replica struct {
	Topic     string
	Partition int32
	Bytes     int64
	Lag       int64 // messages behind the high watermark that the broker knows
	Future    bool
}
