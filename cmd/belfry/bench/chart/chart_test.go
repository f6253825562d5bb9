package chart

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/belfry-mq/belfry/broker/golden"
)

// TestWrite compares a drawing with the one in testdata, which was looked at.
func TestWrite(t *testing.T) {
	var b strings.Builder
	err := Write(&b, []Panel{
		{Title: "throughput & more", Unit: "MB/s", Across: "partitions", Curves: []Curve{
			{"one", []Point{{10, 900}, {100, 700}, {1000, 300}}},
			{"<two>", []Point{{10, 400}, {100, 350}, {1000, 0}}},
		}},
		{Title: "a single point", Unit: "ms", Across: "connections", Curves: []Curve{{"one", []Point{{10, 3}}}}},
		{Title: "nothing", Unit: "ms"},
	})
	if err != nil {
		t.Fatal(err)
	}
	d := xml.NewDecoder(strings.NewReader(b.String()))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("it is no XML: %v\n%s", err, b.String())
		}
	}
	golden.Match(t, "testdata/curves.svg", b.String())
}

// TestRound has scales begin and end with numbers that people can read, around all values.
func TestRound(t *testing.T) {
	for _, c := range []struct{ low, high, from, to float64 }{
		{3, 3, 2, 5}, {1, 10, 1, 10}, {0.7, 1234, 0.5, 2000}, {5, 5, 5, 10},
	} {
		a := axis{low: c.low, high: c.high}
		a.round()
		if abs(a.low-c.from) > 1e-9 || abs(a.high-c.to) > 1e-9 || len(a.ticks) < 2 {
			t.Errorf("%v to %v: got %v to %v, ticks %v", c.low, c.high, a.low, a.high, a.ticks)
		}
	}
}

func abs(v float64) float64 { return max(v, -v) }
