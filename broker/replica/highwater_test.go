package replica

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/record"
)

// numberOf reads a script's number.
func numberOf(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func idsOf(t *testing.T, s string) (out []metadata.BrokerID) {
	t.Helper()
	if s == "-" {
		return nil
	}
	for _, part := range strings.Split(s, ",") {
		out = append(out, metadata.BrokerID(numberOf(t, part)))
	}
	return out
}

// Broker 1 leads. The clock stands at 0 s until "at" moves it; broker epochs are 10 times the
// broker unless a fetch says so.
func TestHighWatermarkScripts(t *testing.T) {
	runScripts(t, "highwater_*.txt", func(t *testing.T) func(string, []string) string {
		var l leadership
		var s isr
		now := time.Unix(0, 0)
		number := func(s string) int { return numberOf(t, s) }
		offset := func(s string) record.Offset { return record.Offset(numberOf(t, s)) }
		return func(cmd string, args []string) string {
			before, end := l.hw, l.end
			said := ""
			switch cmd {
			case "lead": // epoch start hw
				l = lead(1, record.Epoch(number(args[0])), offset(args[1]), offset(args[2]))
				before = l.hw
			case "isr": // replicas committed [proposed]
				s = isr{committed: idsOf(t, args[1])}
				if len(args) > 2 {
					s.proposed = idsOf(t, args[2])
				}
				var all []metadata.BrokerID
				for id := 1; id <= number(args[0]); id++ {
					all = append(all, metadata.BrokerID(id))
				}
				l.members(s, all, now)
			case "min":
				l.require(number(args[0]))
			case "at": // seconds
				now = time.Unix(int64(number(args[0])), 0)
			case "reached": // broker offset [broker epoch]
				id := metadata.BrokerID(number(args[0]))
				if id == 1 {
					l.reached(offset(args[1]))
					break
				}
				f := fetched{broker: id, brokerEpoch: int64(10 * id), offset: offset(args[1]), logEnd: end, now: now}
				if len(args) > 2 {
					f.brokerEpoch = int64(number(args[2]))
				}
				if err := l.note(f); err != nil {
					said = " refused: " + err.Error()
				}
			case "registered": // broker epoch
				l.registered(metadata.BrokerID(number(args[0])), int64(number(args[1])))
			case "joins": // broker
				return fmt.Sprintf("broker %s joins %t\n", args[0], l.joins(metadata.BrokerID(number(args[0]))))
			case "slow": // patience in seconds
				return fmt.Sprintf("slow %v\n", l.slow(now, end, time.Duration(number(args[0]))*time.Second))
			default:
				t.Fatalf("no command %q", cmd)
			}
			if l.hw < before {
				t.Fatalf("high watermark went back from %d to %d", before, l.hw)
			}
			return fmt.Sprintf("hw %d enough %t settled %t%s\n", l.hw, l.enough(), l.settled(), said)
		}
	})
}
