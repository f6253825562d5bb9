package broker_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/belfry-mq/belfry/broker/brokertest"
)

// cpu gives the processor time that this process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkReplication writes messages with acks=all, one after the other, into one partition
// of a topic that has more and more of them, on three brokers in this process. What a message
// costs, in processor time of all three together (cpu-us/op), should not depend on how many
// partitions stand still; idle-cpu-ms/s is what they cost when nothing at all happens.
func BenchmarkReplication(b *testing.B) {
	for _, partitions := range []int32{10, 200, 2000} {
		b.Run(fmt.Sprintf("partitions=%d", partitions), func(b *testing.B) {
			c := brokertest.StartCluster(b, 3)
			k, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(50*time.Millisecond), kgo.ProducerLinger(0))
			if err != nil {
				b.Fatal(err)
			}
			defer k.Close()
			a := kadm.NewClient(k)
			a.SetTimeoutMillis(120_000)
			if _, err := a.CreateTopic(b.Context(), partitions, 3, nil, "t"); err != nil {
				b.Fatal(err)
			}
			for p := range partitions { // each has something, and is in sync
				k.Produce(b.Context(), &kgo.Record{Topic: "t", Partition: p, Value: []byte("x")}, func(_ *kgo.Record, err error) {
					if err != nil {
						b.Error(err)
					}
				})
			}
			if err := k.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
			const rest = 3 * time.Second
			time.Sleep(rest) // what was just done is over
			before := cpu(b)
			time.Sleep(rest)
			idle := cpu(b) - before
			before = cpu(b)
			for b.Loop() {
				if err := k.ProduceSync(b.Context(), &kgo.Record{Topic: "t", Value: []byte("x")}).FirstErr(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-us/op")
			b.ReportMetric(float64(idle.Milliseconds())/rest.Seconds(), "idle-cpu-ms/s")
		})
	}
}
