// Package chart draws curves as SVG: panels in two columns, both axes logarithmic, no scripts.
package chart

import (
	"fmt"
	"html"
	"io"
	"math"
	"strconv"
	"strings"
)

// Panel is one drawing with its axes.
type Panel struct {
	Title  string
	Unit   string // of the values
	Across string // what the points grow by
	Curves []Curve
}

// Curve is one line of a panel.
type Curve struct {
	Name   string
	Points []Point
}

// Point is a value; both numbers are above zero, others are not drawn.
type Point struct{ X, Y float64 }

const (
	panelWidth, panelHeight  = 420, 280
	left, right, top, bottom = 60, 20, 40, 45
)

// colours are those of the curves, in their order; they differ for the colour-blind, too.
var colours = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7"}

// Write draws panels without any points as well: with a word that there are none.
func Write(out io.Writer, panels []Panel) error {
	rows := (len(panels) + 1) / 2
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="sans-serif" font-size="11">`+"\n", 2*panelWidth, rows*panelHeight)
	b.WriteString(`<rect width="100%" height="100%" fill="white"/>` + "\n")
	for i, p := range panels {
		fmt.Fprintf(&b, `<g transform="translate(%d,%d)">`+"\n", i%2*panelWidth, i/2*panelHeight)
		p.draw(&b)
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(out, b.String())
	return err
}

func (p Panel) draw(b *strings.Builder) {
	text(b, panelWidth/2, 18, "middle", "#000", p.Title+" ("+p.Unit+")")
	x, y, ok := p.axes()
	if !ok {
		text(b, panelWidth/2, panelHeight/2, "middle", "#666", "not measured")
		return
	}
	fmt.Fprintf(b, `<rect x="%d" y="%d" width="%d" height="%d" fill="none" stroke="#999"/>`+"\n", left, top, panelWidth-left-right, panelHeight-top-bottom)
	for _, v := range y.ticks {
		at := y.at(v)
		fmt.Fprintf(b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/>`+"\n", left, panelWidth-right, at, at)
		text(b, left-6, at+4, "end", "#333", number(v))
	}
	for _, v := range x.ticks {
		text(b, x.at(v), panelHeight-bottom+16, "middle", "#333", number(v))
	}
	text(b, (left+panelWidth-right)/2, panelHeight-10, "middle", "#333", p.Across)
	for i, c := range p.Curves {
		c.draw(b, x, y, colours[i%len(colours)])
		text(b, left+10+float64(i)*90, top-8, "start", colours[i%len(colours)], "● "+c.Name)
	}
}

func (c Curve) draw(b *strings.Builder, x, y axis, colour string) {
	var line []string
	for _, pt := range c.Points {
		if pt.drawn() {
			line = append(line, fmt.Sprintf("%.1f,%.1f", x.at(pt.X), y.at(pt.Y)))
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"><title>%s: %s</title></circle>`+"\n", x.at(pt.X), y.at(pt.Y), colour, html.EscapeString(c.Name), number(pt.Y))
		}
	}
	if len(line) > 1 {
		fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(line, " "), colour)
	}
}

func (p Point) drawn() bool { return p.X > 0 && p.Y > 0 }

func text(b *strings.Builder, x, y float64, anchor, colour, s string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`+"\n", x, y, anchor, colour, html.EscapeString(s))
}

// axis is a logarithmic scale.
type axis struct {
	low, high float64 // values at its ends
	from, to  float64 // their places
	ticks     []float64
}

func (a axis) at(v float64) float64 {
	return a.from + (a.to-a.from)*math.Log(v/a.low)/math.Log(a.high/a.low)
}

// axes span all points, the values' one from a round number to a round number.
func (p Panel) axes() (x, y axis, ok bool) {
	x = axis{low: math.Inf(1), high: 0, from: left + 15, to: panelWidth - right - 15}
	y = axis{low: math.Inf(1), high: 0, from: panelHeight - bottom, to: top}
	seen := map[float64]bool{}
	for _, c := range p.Curves {
		for _, pt := range c.Points {
			if !pt.drawn() {
				continue
			}
			x.low, x.high = min(x.low, pt.X), max(x.high, pt.X)
			y.low, y.high = min(y.low, pt.Y), max(y.high, pt.Y)
			if !seen[pt.X] {
				seen[pt.X] = true
				x.ticks = append(x.ticks, pt.X)
			}
		}
	}
	if x.high == 0 {
		return x, y, false
	}
	if x.low == x.high {
		x.low, x.high = x.low/2, x.high*2
	}
	y.round()
	return x, y, true
}

// round widens the scale to 1, 2 or 5 times a power of ten and marks those between.
func (a *axis) round() {
	steps := []float64{1, 2, 5}
	low, high := a.low, a.high
	var all []float64
	for e := math.Floor(math.Log10(low)) - 1; e <= math.Ceil(math.Log10(high))+1; e++ {
		for _, s := range steps {
			all = append(all, s*math.Pow(10, e))
		}
	}
	for _, v := range all {
		if v <= low {
			a.low = v
		}
	}
	for i := len(all) - 1; i >= 0; i-- {
		if all[i] >= high && all[i] > a.low {
			a.high = all[i]
		}
	}
	for _, v := range all {
		if v >= a.low && v <= a.high {
			a.ticks = append(a.ticks, v)
		}
	}
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }
