package broker_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/belfry-mq/belfry/broker/brokertest"
	"github.com/belfry-mq/belfry/broker/metadata"
)

// segments gives the segment files of partition 0 of the only topic on one broker, in order.
func segments(t *testing.T, b *brokertest.Broker) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(b.DataDir(), "*-0", "*.log"))
	if err != nil || len(files) < 3 {
		t.Fatalf("segments are %q, %v", files, err)
	}
	slices.Sort(files)
	return files
}

// flip changes one bit in the middle of a file's last record.
func flip(t *testing.T, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil || len(b) < 70 {
		t.Fatalf("%s has %d bytes, %v", file, len(b), err)
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	at := len(b) - 3
	if _, err := f.WriteAt([]byte{b[at] ^ 8}, int64(at)); err != nil {
		t.Fatal(err)
	}
}

// shorten takes the end from a file.
func shorten(t *testing.T, file string) {
	t.Helper()
	info, err := os.Stat(file)
	if err == nil {
		err = os.Truncate(file, info.Size()-30)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// aside gives the folders of damaged copies of a broker's.
func aside(t *testing.T, b *brokertest.Broker) []string {
	t.Helper()
	folders, err := filepath.Glob(filepath.Join(b.DataDir(), "*-0.damaged-*"))
	if err != nil {
		t.Fatal(err)
	}
	return folders
}

// wholeAgain waits until all three replicas are in sync and hold the same bytes, and nobody
// says any more that one is damaged.
func wholeAgain(t *testing.T, c *brokertest.Cluster, all *kadm.Client, topic string) {
	t.Helper()
	brokertest.Eventually(t, "all replicas are in sync and the same", func() bool {
		if len(leaders(t, all, topic)[0].ISR) != 3 {
			return false
		}
		first := logOf(t, c.Brokers[0])
		for _, b := range c.Brokers {
			if !bytes.Equal(logOf(t, b), first) || len(b.Stats().Read().Spoiled) > 0 {
				return false
			}
		}
		return true
	})
}

// consumeAll reads a topic from its beginning and gives the values in order.
func consumeAll(t *testing.T, c *brokertest.Cluster, topic string, n int) (values []string) {
	t.Helper()
	k, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.MetadataMinAge(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for len(values) < n && ctx.Err() == nil {
		k.PollFetches(ctx).EachRecord(func(r *kgo.Record) { values = append(values, string(r.Value)) })
	}
	return values
}

// TestDamagedReplicaIsFetchedAnew damages one replica of three in each way that there is, and
// says how it is to be found: each time the others lead, the damaged files are kept, and the
// replica is whole again without anybody's help (R20).
func TestDamagedReplicaIsFetchedAnew(t *testing.T) {
	for name, damage := range map[string]func(*testing.T, *brokertest.Cluster, *brokertest.Broker){
		"a leader's flipped bit, read by a consumer": func(t *testing.T, _ *brokertest.Cluster, b *brokertest.Broker) {
			flip(t, segments(t, b)[1])
		},
		"a follower's cut file, found at its start": func(t *testing.T, _ *brokertest.Cluster, b *brokertest.Broker) {
			b.Restart(func() { shorten(t, segments(t, b)[1]) }, nil)
		},
		"a flipped bit in the newest file, found by the recovery of a crash": func(t *testing.T, _ *brokertest.Cluster, b *brokertest.Broker) {
			b.Restart(func() {
				b.ForgetCleanShutdown()
				files := segments(t, b)
				flip(t, files[len(files)-1])
			}, nil)
		},
		"a folder that does not say whose it is": func(t *testing.T, _ *brokertest.Cluster, b *brokertest.Broker) {
			b.Restart(func() {
				if err := os.WriteFile(filepath.Join(filepath.Dir(segments(t, b)[0]), "partition.metadata"), []byte("nothing"), 0o600); err != nil {
					t.Fatal(err)
				}
			}, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := brokertest.StartCluster(t, 3, brokertest.Set(quick), brokertest.Set(map[string]string{"log.segment.bytes": "1024"}))
			leader, all := replicated(t, c, "hurt")
			brokertest.Eventually(t, "all have all", func() bool {
				first := logOf(t, c.Brokers[0])
				return bytes.Equal(first, logOf(t, c.Brokers[1])) && bytes.Equal(first, logOf(t, c.Brokers[2])) && len(first) >= 60*61
			})
			hurt := c.Broker(metadata.BrokerID(leader))
			damage(t, c, hurt)
			got := consumeAll(t, c, "hurt", 60)
			for i, v := range got {
				if v != fmt.Sprint(i) {
					t.Fatalf("message %d is %q", i, v)
				}
			}
			if len(got) != 60 {
				t.Fatalf("%d of 60 messages can be read", len(got))
			}
			brokertest.Eventually(t, "the damaged files are set aside", func() bool { return len(aside(t, hurt)) == 1 })
			wholeAgain(t, c, all, "hurt")
			if r := hurt.Stats().Read(); r.Refetched != 1 {
				t.Errorf("%d replicas were fetched anew", r.Refetched)
			}
			produceInto(t, c, "hurt")
			wholeAgain(t, c, all, "hurt")
			for _, b := range c.Brokers {
				if n := len(aside(t, b)); (b == hurt) != (n == 1) {
					t.Errorf("broker %d has %d damaged copies", b.Node(), n)
				}
			}
		})
	}
}

// TestLastReplicaIsNotThrownAway damages the only replica that is in sync: its partition is
// offline, what is left of it stays, and nobody else leads with less.
func TestLastReplicaIsNotThrownAway(t *testing.T) {
	c := brokertest.StartCluster(t, 3, brokertest.Set(quick), brokertest.Set(map[string]string{"log.segment.bytes": "1024"}))
	all := admin(t, c.Addrs()...)
	if _, err := all.CreateTopic(t.Context(), 1, 1, nil, "single"); err != nil {
		t.Fatal(err)
	}
	produceInto(t, c, "single")
	hurt := c.Broker(metadata.BrokerID(leaders(t, all, "single")[0].Leader))
	flip(t, segments(t, hurt)[1])
	k, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.ConsumeTopics("single"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	k.PollFetches(ctx)
	cancel()
	brokertest.Eventually(t, "nobody leads", func() bool { return leaders(t, all, "single")[0].Leader == -1 })
	if s := hurt.Stats().Read().Spoiled; len(s) != 1 || s[0].Topic != "single" || s[0].Dir != hurt.DataDir() || s[0].Why != "a check sum is wrong" {
		t.Errorf("it says %+v", s)
	}
	for range 5 { // heartbeats come every 100 ms
		if len(aside(t, hurt)) != 0 || len(segments(t, hurt)) < 3 {
			t.Fatal("the last copy was thrown away")
		}
		if _, err := all.BrokerMetadata(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
