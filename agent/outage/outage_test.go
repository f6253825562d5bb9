package outage

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/belfry-mq/belfry/agent/cluster"
)

var update = flag.Bool("update", false, "write the expected parts of the scripts anew")

// TestScripts plays testdata/*.txt. A line sets one thing of a cluster, "judge N [KIND…]"
// asks, without the kinds that are accepted; the lines after it, which begin with ">", are
// the answer. "case" begins a new cluster.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			want, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(want))
			if *update {
				if err := os.WriteFile(f, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got != string(want) {
				t.Errorf("the script says now:\n%s", got)
			}
		})
	}
}

func play(t *testing.T, text string) string {
	var out strings.Builder
	var s *cluster.Standing
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, ">") {
			continue
		}
		out.WriteString(line + "\n")
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(line, "#") {
			continue
		}
		switch words[0] {
		case "case":
			s = &cluster.Standing{MinInSync: map[string]cluster.MinInSync{}, NodeMin: map[int32]int{}}
		case "judge":
			var accept []Kind
			for _, k := range words[2:] {
				accept = append(accept, Kind(k))
			}
			show(&out, Judge(s, number(t, words[1])).Accepting(accept))
		default:
			set(t, s, words)
		}
	}
	return out.String()
}

func show(out *strings.Builder, v Verdict) {
	if v.Safe {
		out.WriteString("> safe\n")
	}
	for _, r := range v.Reasons {
		fmt.Fprintf(out, "> %s %d: %v\n", r.Kind, r.Count, r)
	}
	for _, n := range v.Notes {
		fmt.Fprintf(out, "> note: %s\n", n)
	}
}

func set(t *testing.T, s *cluster.Standing, words []string) {
	switch words[0] {
	case "brokers": // 1 2=down 3=stopping
		for _, w := range words[1:] {
			id, state, _ := strings.Cut(w, "=")
			s.Members = append(s.Members, cluster.Member{Broker: cluster.Broker{ID: number(t, id)}, Fenced: state == "down", Leaving: state == "stopping"})
		}
	case "voters": // 1 2=silent
		for _, w := range words[1:] {
			id, state, _ := strings.Cut(w, "=")
			s.Voters = append(s.Voters, cluster.Voter{ID: number(t, id), Up: state == ""})
		}
	case "node-min": // 1=2
		for _, w := range words[1:] {
			id, n, _ := strings.Cut(w, "=")
			s.NodeMin[number(t, id)] = int(number(t, n))
		}
	case "topic": // NAME min=2 | inherits=1 | min=?
		name, value, _ := strings.Cut(words[2], "=")
		if value != "?" {
			s.MinInSync[words[1]] = cluster.MinInSync{Value: int(number(t, value)), Own: name == "min"}
		}
		s.Topics = append(s.Topics, cluster.Topic{Name: words[1]})
	case "partition": // 1,2,3 isr=1,2 leader=-1; the first in sync leads unless it says otherwise
		topic := &s.Topics[len(s.Topics)-1]
		p := cluster.Partition{ID: int32(len(topic.Partitions)), Replicas: list(t, words[1]), Leader: -1}
		for _, w := range words[2:] {
			name, value, _ := strings.Cut(w, "=")
			switch name {
			case "isr":
				p.ISR = list(t, value)
				p.Leader = p.ISR[0]
			case "leader":
				p.Leader = number(t, value)
			}
		}
		topic.Partitions = append(topic.Partitions, p)
	case "failed": // BROKER DIR
		s.Failed = append(s.Failed, cluster.FailedDir{Broker: number(t, words[1]), Path: words[2]})
	case "moving": // TOPIC PARTITION
		s.Moves = append(s.Moves, cluster.Place{Topic: words[1], Partition: number(t, words[2])})
	case "unknown":
		s.Unknown = append(s.Unknown, strings.Join(words[1:], " "))
	default:
		t.Fatalf("unknown line %q", words)
	}
}

func number(t *testing.T, text string) int32 {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return int32(n)
}

func list(t *testing.T, text string) (ids []int32) {
	for w := range strings.SplitSeq(text, ",") {
		ids = append(ids, number(t, w))
	}
	return ids
}
