package stats

import (
	"bytes"
	"io"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Names of labels, the same that the documented metrics have.
const (
	labelTopic    = "kafka_topics"
	labelAPI      = "api"
	labelCode     = "code"
	labelListener = "listener"
	labelReason   = "reason"
)

// help tells what each family is; the one place that names all of them. Read only.
var help = map[string]string{
	"belfry_request_duration_seconds":            "Time from reading a request to handing over its answer, waiting included.",
	"belfry_request_local_duration_seconds":      "Time that the broker worked on a request, waiting for data or replicas not included.",
	"belfry_request_errors_total":                "Requests answered with an error code.",
	"belfry_request_bytes_total":                 "Bytes of requests received.",
	"belfry_response_bytes_total":                "Bytes of answers sent.",
	"belfry_in_bytes_total":                      "Bytes produced by clients.",
	"belfry_out_bytes_total":                     "Bytes consumed by clients.",
	"belfry_in_messages_total":                   "Messages produced by clients.",
	"belfry_topic_in_bytes_total":                "Bytes produced to the topic by clients.",
	"belfry_topic_out_bytes_total":               "Bytes consumed from the topic by clients.",
	"belfry_topic_in_messages_total":             "Messages produced to the topic by clients.",
	"belfry_topic_produce_requests_total":        "Produce requests that touched the topic.",
	"belfry_topic_fetch_requests_total":          "Fetch requests that touched the topic.",
	"belfry_topic_failed_produce_requests_total": "Produce requests that failed for the topic.",
	"belfry_topic_failed_fetch_requests_total":   "Fetch requests that failed for the topic.",
	"belfry_topic_rejected_bytes_total":          "Produced bytes that were refused.",
	"belfry_led_partitions":                      "Partitions that this broker leads.",
	"belfry_led_under_replicated_partitions":     "Led partitions with fewer replicas in sync than assigned.",
	"belfry_led_under_min_isr_partitions":        "Led partitions with fewer replicas in sync than min.insync.replicas.",
	"belfry_replica_max_lag_messages":            "Messages that the slowest replica of any led partition lacks.",
	"belfry_isr_shrinks_total":                   "In-sync sets of led partitions that lost a member.",
	"belfry_isr_expands_total":                   "In-sync sets of led partitions that got a member.",
	"belfry_replication_in_bytes_total":          "Bytes of records fetched from leaders.",
	"belfry_replication_limited_in_bytes_total":  "Bytes of records fetched from leaders that count for follower.replication.throttled.rate.",
	"belfry_replication_limited_out_bytes_total": "Bytes of records fetched by followers that count for leader.replication.throttled.rate.",
	"belfry_replication_out_bytes_total":         "Bytes of records fetched by followers.",
	"belfry_connections":                         "Open connections.",
	"belfry_connections_accepted_total":          "Connections accepted.",
	"belfry_connections_refused_total":           "Connections refused.",
	"belfry_listener_in_bytes_total":             "All bytes received on the listener's sockets.",
	"belfry_listener_out_bytes_total":            "All bytes sent on the listener's sockets.",
	"belfry_flush_duration_seconds":              "Time to flush a log to disk.",
	"belfry_flush_errors_total":                  "Flushes that failed.",
	"belfry_deleted_bytes_total":                 "Bytes of message data deleted, by reason.",
}

// Gatherer gives the histograms; the counters come from WriteMetrics.
func (b *Broker) Gatherer() prometheus.Gatherer {
	if b == nil {
		return prometheus.NewRegistry()
	}
	return b.registry
}

// WriteMetrics writes all counters and gauges in Prometheus' text format, each
// family with its HELP and TYPE. Topics whose name begins with '_' or '#' are
// left out, as everywhere by default; WriteAll gives them too.
func (b *Broker) WriteMetrics(w io.Writer) { b.write(w, false) }

// WriteAll writes what WriteMetrics does and the internal topics.
func (b *Broker) WriteAll(w io.Writer) { b.write(w, true) }

func (b *Broker) write(w io.Writer, internal bool) {
	if b == nil {
		return
	}
	var raw, out bytes.Buffer
	b.set.WritePrometheus(&raw)
	out.Grow(raw.Len() + 4096)
	family := ""
	for line := range bytes.Lines(raw.Bytes()) {
		name := line[:max(bytes.IndexAny(line, "{ "), 0)]
		if !internal && isInternal(line[len(name):]) {
			continue
		}
		if string(name) != family {
			family = string(name)
			writeHead(&out, family)
		}
		out.Write(line)
	}
	_, _ = w.Write(out.Bytes()) // whoever reads it went away: nobody is left to tell
}

func writeHead(out *bytes.Buffer, family string) {
	kind := "gauge"
	if strings.HasSuffix(family, "_total") {
		kind = "counter"
	}
	out.WriteString("# HELP " + family + " " + help[family] + "\n# TYPE " + family + " " + kind + "\n")
}

// isInternal tells whether the labels of a line name an internal topic.
func isInternal(labels []byte) bool {
	const prefix = "{" + labelTopic + `="`
	return bytes.HasPrefix(labels, []byte(prefix)) && len(labels) > len(prefix) &&
		(labels[len(prefix)] == '_' || labels[len(prefix)] == '#')
}

// series writes a name with labels, quoted as Prometheus wants them. Labels are
// given sorted by name: the same series always has the same text.
func series(family string, pairs ...string) string {
	var s strings.Builder
	s.WriteString(family)
	for i := 0; i < len(pairs); i += 2 {
		s.WriteByte("{,"[min(i, 1)])
		s.WriteString(pairs[i] + `="`)
		_, _ = escaper().WriteString(&s, pairs[i+1])
		s.WriteByte('"')
	}
	s.WriteByte('}')
	return s.String()
}

func escaper() *strings.Replacer {
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
}
