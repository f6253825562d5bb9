package bench

import (
	"fmt"
	"time"

	"github.com/belfry-mq/belfry/cmd/belfry/bench/load"
	"github.com/belfry-mq/belfry/cmd/belfry/bench/peer"
)

// Sections of a run, in their order; Options.Only picks from them.
const (
	sectionStart   = "start"   // start and memory of fresh processes
	sectionProduce = "produce" // throughput from the page cache
	sectionFsync   = "fsync"   // throughput with a flush before every answer
	sectionConsume = "consume"
	sectionBoth    = "both"
	sectionLatency = "latency"
	sectionE2E     = "e2e"
	sectionTools   = "tools" // Kafka's own load generators
	sectionRestart = "restart"
	sectionGrowth  = "growth"
	sectionAgent   = "agent"
	sectionCluster = "cluster" // three nodes
)

// Sections gives the names that Options.Only takes.
func Sections() []string {
	return []string{sectionStart, sectionProduce, sectionFsync, sectionConsume, sectionBoth, sectionLatency, sectionE2E, sectionTools, sectionRestart, sectionGrowth, sectionAgent, sectionCluster}
}

// limitColumn holds what the machine or the null broker reaches.
const limitColumn = "limit"

// Line is one measure: what is compared with whom and what is wanted.
type Line struct {
	ID      string `json:"id"`
	Section string `json:"section"`
	Name    string `json:"name"`
	Unit    string `json:"unit"`
	Lower   bool   `json:"lower_is_better"`
	// Against is whom the goal is about; Kafka, but for few lines.
	Against string `json:"against"`
	// Goal is the ratio to Against that is wanted: at least, or at most where Lower. 0: none.
	Goal float64 `json:"goal,omitempty"`
	// Zero: nothing but 0 will do, whatever Against has; there is no Goal then.
	Zero bool `json:"zero,omitempty"`
	// Largest: the figure is the largest of all values, not their median.
	Largest bool `json:"largest,omitempty"`
	// Limit says what the limit is; "": there is none.
	Limit string `json:"limit,omitempty"`
	// LimitGoal is the ratio to the limit that is wanted, as Goal. 0: none.
	LimitGoal float64 `json:"limit_goal,omitempty"`
}

const (
	mbs = "MB/s"
	ms  = "ms"
	mib = "MiB"
)

// Identities of lines that are measured in more than one place or used by others.
const (
	idStart         = "start"
	idProduce1K     = "produce.1k"
	idProduceCPU    = "produce.cpu"
	idProduceSingle = "produce.single"
	idProduceFsync  = "produce.fsync"
	idProduceSafe   = "produce.safe"
	idProduceTool   = "produce.tool"
	idConsumeTail   = "consume.tail"
	idConsumeCold   = "consume.cold"
	idConsumeWarm   = "consume.warm"
	idConsumeCPU    = "consume.cpu"
	idFetchTail     = "fetch.tail"
	idFetchWarm     = "fetch.warm"
	idConsumeTool   = "consume.tool"
	idBoth          = "both"
	idE2E           = "e2e.p99"
	idMemoryIdle    = "memory.idle"
	idMemoryLoad    = "memory.load"
	idMemoryMany    = "memory.partitions"
	idMemoryConns   = "memory.connections"
	idRestart       = "restart"
	idAgentRate     = "agent.rate"
	idSample        = "agent.sample"
	idSampleOne     = "agent.sample.kafka_exporter"
	idSampleTwo     = "agent.sample.kminion"
	idScrapeOne     = "agent.scrape.kafka_exporter"
	idScrapeTwo     = "agent.scrape.kminion"
)

// lines are all measures of a run. The goals are those the project has set itself.
func lines(o Options) []Line {
	sendfile, null := "sendfile of the same bytes", peer.Null
	all := []Line{
		{ID: idProduce1K, Section: sectionProduce, Name: "produce, acks=all", Unit: mbs, Goal: 1.5, Limit: null, LimitGoal: 0.7},
		{ID: "produce.100b", Section: sectionProduce, Name: "produce, 100 B", Unit: mbs, Goal: 1.5, Limit: null},
		{ID: "produce.10k", Section: sectionProduce, Name: "produce, 10 KB", Unit: mbs, Goal: 1.5, Limit: null},
		{ID: "produce.lz4", Section: sectionProduce, Name: "produce, lz4", Unit: mbs, Goal: 1.5, Limit: null},
		{ID: idProduceTool, Section: sectionTools, Name: "produce, kafka-producer-perf-test", Unit: mbs, Goal: 1.5, Limit: null},
		{ID: idProduceSingle, Section: sectionProduce, Name: "produce, each message waits for its answer", Unit: "msg/s", Limit: null},
		{ID: idProduceCPU, Section: sectionProduce, Name: "broker's CPU, produce", Unit: "s/GB", Lower: true, Limit: null},
		{ID: idProduceFsync, Section: sectionFsync, Name: "produce, fsync before every answer", Unit: mbs, Goal: 2, Limit: "write and fdatasync of the same bytes", LimitGoal: 0.8},
		{ID: idProduceSafe, Section: sectionFsync, Name: "produce, our safe default (fsync) against Kafka's default (page cache)", Unit: mbs},
		{ID: idConsumeTail, Section: sectionConsume, Name: "consume at the tail, just written", Unit: mbs, Goal: 1.5, Limit: sendfile, LimitGoal: 0.7},
		{ID: idConsumeCold, Section: sectionConsume, Name: "consume from disk, cold", Unit: mbs, Goal: 1.5, Limit: sendfile, LimitGoal: 0.7},
		{ID: idConsumeWarm, Section: sectionConsume, Name: "consume from disk, warm", Unit: mbs, Goal: 1.5, Limit: sendfile, LimitGoal: 0.7},
		{ID: idFetchTail, Section: sectionConsume, Name: "consume at the tail, answers not decoded", Unit: mbs, Goal: 1.5, Limit: sendfile, LimitGoal: 0.7},
		{ID: idFetchWarm, Section: sectionConsume, Name: "consume from disk, warm, answers not decoded", Unit: mbs, Goal: 1.5, Limit: sendfile, LimitGoal: 0.7},
		{ID: idConsumeTool, Section: sectionTools, Name: "consume, kafka-consumer-perf-test", Unit: mbs, Goal: 1.5},
		{ID: idConsumeCPU, Section: sectionConsume, Name: "broker's CPU, consume", Unit: "s/GB", Lower: true, Limit: null},
		{ID: idBoth, Section: sectionBoth, Name: "produce and consume together, 1:1", Unit: mbs, Goal: 1.5, Limit: null},
	}
	all = append(all, answerLines("answer", fmt.Sprintf("answer time at %d msg/s", o.Rate), null, 0.5, 1.0/3, 1.0/3)...)
	all = append(all, answerLines("answer.fsync", fmt.Sprintf("answer time at %d msg/s, fsync before every answer", o.Rate), "", 0, 0, 0)...)
	all = append(all,
		Line{ID: idE2E, Section: sectionE2E, Name: fmt.Sprintf("end-to-end time at %d msg/s, p99", o.EndToEndRate), Unit: ms, Lower: true, Goal: 1.0 / 3, Limit: null},
		Line{ID: idMemoryIdle, Section: sectionStart, Name: "memory, idle", Unit: mib, Lower: true, Goal: 1.0 / 8},
		Line{ID: idMemoryLoad, Section: sectionProduce, Name: "memory, under load", Unit: mib, Lower: true, Goal: 1.0 / 4},
		Line{ID: idMemoryMany, Section: sectionStart, Name: fmt.Sprintf("memory, %d partitions", o.ManyPartitions), Unit: mib, Lower: true, Goal: 1.0 / 6},
		Line{ID: idMemoryConns, Section: sectionStart, Name: fmt.Sprintf("memory, %d idle connections", o.IdleConnections), Unit: mib, Lower: true, Goal: 1.0 / 6},
		Line{ID: idStart, Section: sectionStart, Name: "start to first answer", Unit: ms, Lower: true, Goal: 1.0 / 10},
		Line{ID: idRestart, Section: sectionRestart, Name: fmt.Sprintf("restart after kill -9 with %.3g GB of logs", o.LogGB), Unit: ms, Lower: true, Goal: 1.0 / 2},
	)
	for _, g := range growths(o) {
		all = append(all,
			Line{ID: g.id("rate"), Section: sectionGrowth, Name: g.name("throughput"), Unit: mbs, Goal: 1},
			Line{ID: g.id("p99"), Section: sectionGrowth, Name: g.name(fmt.Sprintf("answer time at %d msg/s, p99,", growthRate)), Unit: ms, Lower: true, Goal: 1})
	}
	all = append(all,
		Line{ID: idAgentRate, Section: sectionAgent, Name: fmt.Sprintf("produce with the agent on, %d partitions, %d groups", o.AgentTopics*agentPartitions, o.AgentTopics), Unit: mbs, Limit: "agent off", LimitGoal: 0.98},
		Line{ID: idSample, Section: sectionAgent, Name: "CPU of the node's own sample, once a period", Unit: ms, Lower: true},
		Line{ID: idScrapeOne, Section: sectionAgent, Name: "CPU of one scrape: the node's, an exporter's with the broker's", Unit: ms, Lower: true, Against: kafkaExporter, Goal: 1.0 / 5},
		Line{ID: idScrapeTwo, Section: sectionAgent, Name: "CPU of one scrape: the node's, an exporter's with the broker's", Unit: ms, Lower: true, Against: kminion, Goal: 1.0 / 5},
		Line{ID: idSampleOne, Section: sectionAgent, Name: "the same with the node's sample", Unit: ms, Lower: true, Against: kafkaExporter},
		Line{ID: idSampleTwo, Section: sectionAgent, Name: "the same with the node's sample", Unit: ms, Lower: true, Against: kminion})
	all = append(all, clusterLines(o)...)
	for i := range all {
		if all[i].Against == "" {
			all[i].Against = peer.Kafka
		}
	}
	return all
}

func answerLines(id, name, limit string, p50, p99, p999 float64) []Line {
	return []Line{
		{ID: id + ".p50", Section: sectionLatency, Name: name + ", p50", Unit: ms, Lower: true, Goal: p50, Limit: limit},
		{ID: id + ".p99", Section: sectionLatency, Name: name + ", p99", Unit: ms, Lower: true, Goal: p99, Limit: limit},
		{ID: id + ".p999", Section: sectionLatency, Name: name + ", p99.9", Unit: ms, Lower: true, Goal: p999, Limit: limit},
	}
}

// growth is one point of a curve.
type growth struct {
	what string // partitions or connections
	n    int
}

func (g growth) id(of string) string   { return fmt.Sprintf("growth.%s.%d.%s", g.what, g.n, of) }
func (g growth) name(of string) string { return fmt.Sprintf("%s with %d %s", of, g.n, g.what) }
func growths(o Options) (all []growth) {
	for _, n := range o.GrowthPartitions {
		all = append(all, growth{"partitions", n})
	}
	for _, n := range o.GrowthConnections {
		all = append(all, growth{"connections", n})
	}
	return all
}

func (g growth) partitions(o Options) int {
	if g.what == "connections" {
		return o.Partitions
	}
	return g.n
}

// load is what a point is measured with. Why spread: a producer that fills one batch after the
// other would hardly notice how many partitions there are.
func (g growth) load(o Options) load.Produce {
	p := load.Produce{Size: 1000, For: max(o.Time/growthShare, 100*time.Millisecond), Clients: 1, Spread: true}
	if g.what == "connections" {
		p.Clients, p.Spread = g.n, false
	}
	return p
}
