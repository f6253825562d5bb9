// Package group coordinates consumer groups.
package group

import (
	"context"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/replica"
)

// Client is who asks.
type Client struct {
	ID   string // client ID, "" if none
	Host string // "/127.0.0.1", as Kafka shows it
}

// Options of a Coordinator.
type Options struct {
	Node     metadata.BrokerID
	Replicas *replica.Set
	Settings func() *config.Values // the broker's effective settings of now
	Logger   *slog.Logger
	Now      func() time.Time
}

// Coordinator serves the groups whose __consumer_offsets partition this broker leads. The reply funcs are called exactly once, from any goroutine; they get a response without throttle time.
type Coordinator struct{}

func New(o Options) *Coordinator                      { panic("BUG: unbuilt") }
func (c *Coordinator) Apply(old, img *metadata.Image) { panic("BUG: unbuilt") }
func (c *Coordinator) Run(ctx context.Context) error  { panic("BUG: unbuilt") }

// PartitionOf gives the __consumer_offsets partition of a group: Java's String.hashCode & 0x7fffffff % n.
func PartitionOf(groupID string, n int) int32 { panic("BUG: unbuilt") }

func (c *Coordinator) JoinGroup(from Client, r *kmsg.JoinGroupRequest, reply func(*kmsg.JoinGroupResponse)) {
	panic("BUG: unbuilt")
}
func (c *Coordinator) SyncGroup(from Client, r *kmsg.SyncGroupRequest, reply func(*kmsg.SyncGroupResponse)) {
	panic("BUG: unbuilt")
}
func (c *Coordinator) Heartbeat(r *kmsg.HeartbeatRequest) *kmsg.HeartbeatResponse {
	panic("BUG: unbuilt")
}
func (c *Coordinator) LeaveGroup(r *kmsg.LeaveGroupRequest, reply func(*kmsg.LeaveGroupResponse)) {
	panic("BUG: unbuilt")
}
func (c *Coordinator) OffsetCommit(r *kmsg.OffsetCommitRequest, reply func(*kmsg.OffsetCommitResponse)) {
	panic("BUG: unbuilt")
}
func (c *Coordinator) OffsetFetch(r *kmsg.OffsetFetchRequest) *kmsg.OffsetFetchResponse {
	panic("BUG: unbuilt")
}
func (c *Coordinator) OffsetDelete(r *kmsg.OffsetDeleteRequest, reply func(*kmsg.OffsetDeleteResponse)) {
	panic("BUG: unbuilt")
}
func (c *Coordinator) DeleteGroups(r *kmsg.DeleteGroupsRequest, reply func(*kmsg.DeleteGroupsResponse)) {
	panic("BUG: unbuilt")
}
func (c *Coordinator) DescribeGroups(r *kmsg.DescribeGroupsRequest) *kmsg.DescribeGroupsResponse {
	panic("BUG: unbuilt")
}
func (c *Coordinator) ListGroups(r *kmsg.ListGroupsRequest) *kmsg.ListGroupsResponse {
	panic("BUG: unbuilt")
}
