package watch

import (
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

// BenchmarkScrape asks a real node with 1 000 partitions, each with 20 groups on it, for its metrics.
func BenchmarkScrape(b *testing.B) {
	const topics, partitions, groups = 10, 100, 20
	n := nodetest.Start(b, nodetest.Options{Settings: quick(map[string]string{"agent.period": "5s", "alarm.rules": write(b, "rules.yaml", quiet)})})
	u := newUser(b, n.Kafka)
	var offsets kadm.Offsets
	for i := range topics {
		name := fmt.Sprintf("topic-%d", i)
		u.topic(name, partitions)
		for p := range int32(partitions) {
			offsets.AddOffset(name, p, 0, -1)
		}
	}
	for g := range groups {
		ctx, cancel := u.context()
		if _, err := u.admin.CommitOffsets(ctx, fmt.Sprintf("group-%d", g), offsets); err != nil {
			b.Fatal(err)
		}
		cancel()
	}
	awaitValue(b, n, equals(topics*partitions), "current_partitions")
	awaitValue(b, n, equals(0), "messages_remained", "kafka_groups", fmt.Sprintf("group-%d", groups-1), "kafka_topics", "topic-9", "kafka_partitions", "99")
	pass, _ := scrape(b, n).value("belfry_collector_duration_seconds", "collector", "cluster")
	for _, coding := range []string{"identity", "gzip"} {
		b.Run(coding, func(b *testing.B) {
			var bytes int64
			for b.Loop() {
				r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "http://"+n.Metrics+"/metrics", nil)
				if err != nil {
					b.Fatal(err)
				}
				r.Header.Set("Accept-Encoding", coding)
				resp, err := http.DefaultClient.Do(r)
				if err != nil {
					b.Fatal(err)
				}
				if bytes, err = io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
					b.Fatalf("%s: %v", resp.Status, err)
				}
				_ = resp.Body.Close() // all of it was read
			}
			b.ReportMetric(float64(bytes), "bytes/scrape")
			b.ReportMetric(1000*pass, "ms/pass")
		})
	}
}
