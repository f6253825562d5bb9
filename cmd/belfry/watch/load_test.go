package watch

import (
	"context"
	"crypto/rand"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// user is what a program of the user's does at a cluster.
type user struct {
	t     testing.TB
	kafka *kgo.Client
	admin *kadm.Client
}

func newUser(t testing.TB, address string) *user {
	t.Helper()
	k, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return &user{t, k, kadm.NewClient(k)}
}

func (u *user) context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

func (u *user) topic(name string, partitions int32) {
	u.t.Helper()
	ctx, cancel := u.context()
	defer cancel()
	if _, err := u.admin.CreateTopic(ctx, partitions, 1, nil, name); err != nil {
		u.t.Fatalf("cannot create topic %s: %v", name, err)
	}
}

// produce sends n messages of a size to a partition.
func (u *user) produce(topic string, partition int32, n, size int) {
	u.t.Helper()
	ctx, cancel := u.context()
	defer cancel()
	value := make([]byte, size)
	_, _ = rand.Read(value) // never fails
	records := make([]*kgo.Record, n)
	for i := range records {
		records[i] = &kgo.Record{Topic: topic, Partition: partition, Value: value}
	}
	if err := u.kafka.ProduceSync(ctx, records...).FirstErr(); err != nil {
		u.t.Fatalf("cannot produce to %s: %v", topic, err)
	}
}

// commit sets how far a group has consumed a partition.
func (u *user) commit(group, topic string, partition int32, offset int64) {
	u.t.Helper()
	ctx, cancel := u.context()
	defer cancel()
	var o kadm.Offsets
	o.AddOffset(topic, partition, offset, -1)
	answer, err := u.admin.CommitOffsets(ctx, group, o)
	if err == nil {
		err = answer.Error()
	}
	if err != nil {
		u.t.Fatalf("cannot commit %s of %s: %v", topic, group, err)
	}
}

// capacity sets the size of the storage of broker 0 while it runs.
func (u *user) capacity(bytes int64) {
	u.t.Helper()
	ctx, cancel := u.context()
	defer cancel()
	value := fmt.Sprint(bytes)
	answer, err := u.admin.AlterBrokerConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "storage_capacity", Value: &value}}, 0)
	if err == nil {
		for _, r := range answer {
			err = r.Err
		}
	}
	if err != nil {
		u.t.Fatalf("cannot set storage_capacity: %v", err)
	}
}
