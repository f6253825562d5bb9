// Package controller decides what should change.
package controller

import (
	"context"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/topic"
)

// Controller turns wishes into metadata records; every method returns after the records are committed AND applied to this node's rooms (image published).
type Controller struct{}

// Refusal is the client's fault; Code is a Kafka error code number (kerr). api/errors.go maps it without guessing.
type Refusal struct {
	Code    int16
	Message string
}

func (r *Refusal) Error() string { return r.Message }

// NewTopic is one topic wished for. Partitions -1 / Replicas -1: the default. Assignment, if set, gives the replicas of each partition.
type NewTopic struct {
	Name       string
	Partitions int32
	Replicas   int16
	Assignment map[int32][]metadata.BrokerID
	Configs    map[string]string
}

// Created is what became of one NewTopic; Err is *Refusal or trouble.
type Created struct {
	Topic *metadata.Topic
	Err   error
}

func (c *Controller) CreateTopics(ctx context.Context, ts []NewTopic, validateOnly bool) []Created {
	panic("BUG: unbuilt")
}

// DeleteTopics takes IDs; errors by position.
func (c *Controller) DeleteTopics(ctx context.Context, ids []topic.ID) []error { panic("BUG: unbuilt") }

// Growth is one CreatePartitions wish: Count is the new total.
type Growth struct {
	Topic      string
	Count      int32
	Assignment [][]metadata.BrokerID
}

func (c *Controller) CreatePartitions(ctx context.Context, gs []Growth, validateOnly bool) []error {
	panic("BUG: unbuilt")
}

// Change of one setting. Op: 0 set, 1 delete, 2 append, 3 subtract (Kafka's).
type Change struct {
	Name  string
	Op    int8
	Value *string
}

// Alter changes a resource's dynamic settings. replace=true: AlterConfigs (all others are removed).
type Alter struct {
	Resource metadata.Resource
	Changes  []Change
	Replace  bool
}

func (c *Controller) AlterConfigs(ctx context.Context, as []Alter, validateOnly bool) []error {
	panic("BUG: unbuilt")
}

// ProducerIDs hands this broker a block [first, first+n).
func (c *Controller) ProducerIDs(ctx context.Context) (first int64, n int, err error) {
	panic("BUG: unbuilt")
}
