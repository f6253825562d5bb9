package replica

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/record"
)

func TestHighWatermarkScripts(t *testing.T) {
	runScripts(t, "highwater_*.txt", func(t *testing.T) func(string, []string) string {
		var l leadership
		number := func(s string) int {
			n, err := strconv.Atoi(s)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		ids := func(s string) (out []metadata.BrokerID) {
			for _, part := range strings.Split(s, ",") {
				out = append(out, metadata.BrokerID(number(part)))
			}
			return out
		}
		return func(cmd string, args []string) string {
			before := l.hw
			switch cmd {
			case "lead": // epoch start hw
				l = lead(1, record.Epoch(number(args[0])), record.Offset(number(args[1])), record.Offset(number(args[2])))
				before = l.hw
			case "isr": // replicas committed [proposed]
				s := isr{committed: ids(args[1])}
				if len(args) > 2 {
					s.proposed = ids(args[2])
				}
				l.members(s, number(args[0]))
			case "min":
				l.require(number(args[0]))
			case "reached":
				l.reached(metadata.BrokerID(number(args[0])), record.Offset(number(args[1])))
			default:
				t.Fatalf("no command %q", cmd)
			}
			if l.hw < before {
				t.Fatalf("high watermark went back from %d to %d", before, l.hw)
			}
			return fmt.Sprintf("hw %d enough %t settled %t\n", l.hw, l.enough(), l.settled())
		}
	})
}
