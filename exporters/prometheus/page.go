package prometheus

import (
	"bufio"
	"bytes"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/belfry-mq/belfry/agent/metric"
)

// page is one answer being written.
//
// Why by hand and not by client_golang: a snapshot of 10 000 partitions is 80 000
// series, and a const metric for each costs 15 times as much as writing the line.
type page struct {
	out      *bufio.Writer
	open     bool // OpenMetrics
	seen     map[string]bool
	constant []metric.Label // of live series
	exporter *Exporter
	buf      []byte // one line
}

// claim tells whether a family may be written: each comes from one source. In
// OpenMetrics a counter takes its name without _total, too.
func (p *page) claim(family string, counter bool) bool {
	name := family
	if p.open && counter {
		name = strings.TrimSuffix(family, "_total")
	}
	if p.seen[name] {
		p.exporter.doubled(family)
		return false
	}
	p.seen[name] = true
	return true
}

// snapshot writes all samples of a snapshot; they are sorted by family already.
func (p *page) snapshot(s *metric.Snapshot) {
	if s == nil {
		return
	}
	prefix := []byte(nil)
	if s.InstanceID != "" {
		prefix = appendLabel(nil, metric.LabelInstance, s.InstanceID)
	}
	for rest := s.Samples; len(rest) > 0; {
		family := s.Of(rest[0].ID)
		rest = rest[len(family):]
		id := string(family[0].ID)
		row, _ := metric.Lookup(family[0].ID)
		if !p.claim(id, row.Counter) {
			continue
		}
		kind := "gauge"
		if row.Counter {
			kind = "counter"
		}
		p.head(id, kind, row.Help)
		for _, sample := range family {
			p.sample(id, prefix, sample)
		}
	}
}

// head writes HELP and TYPE. OpenMetrics names a counter's family without _total.
func (p *page) head(family, kind, help string) {
	switch {
	case p.open && kind == "counter":
		family = strings.TrimSuffix(family, "_total")
	case p.open && kind == "untyped":
		kind = "unknown"
	}
	b := p.buf[:0]
	if help != "" {
		b = append(b, "# HELP "...)
		b = append(b, family...)
		b = append(b, ' ')
		b = appendEscaped(b, help, p.open)
		b = append(b, '\n')
	}
	b = append(b, "# TYPE "...)
	b = append(b, family...)
	b = append(b, ' ')
	b = append(b, kind...)
	p.flush(append(b, '\n'))
}

func (p *page) sample(id string, prefix []byte, s metric.Sample) {
	b := append(p.buf[:0], id...)
	if len(prefix) > 0 || len(s.Labels) > 0 {
		b = append(b, '{')
		b = append(b, prefix...)
		for i, l := range s.Labels {
			if i > 0 || len(prefix) > 0 {
				b = append(b, ',')
			}
			b = appendLabel(b, l.Name, l.Value)
		}
		b = append(b, '}')
	}
	b = append(b, ' ')
	b = appendValue(b, s.Value)
	p.flush(append(b, '\n'))
}

// flush writes a line and keeps its memory for the next.
func (p *page) flush(line []byte) {
	_, _ = p.out.Write(line) // the writer remembers its first error
	p.buf = line
}

// gathered writes the families of client_golang.
func (p *page) gathered(format expfmt.Format) {
	families, err := prometheus.Gatherers(p.exporter.o.Gatherers).Gather()
	if err != nil {
		p.exporter.o.Logger.Error("cannot gather all live metrics", "error", err)
	}
	encoder := expfmt.NewEncoder(p.out, format)
	for _, f := range families {
		if !p.claim(f.GetName(), f.GetType() == dto.MetricType_COUNTER) {
			continue
		}
		for _, m := range f.GetMetric() {
			m.Label = p.labelled(m.GetLabel())
			m.TimestampMs = nil
		}
		if err := encoder.Encode(f); err != nil {
			return // the reader went away
		}
	}
}

// labelled gives labels and the constant ones in a new slice: the old one belongs
// to the metric.
func (p *page) labelled(own []*dto.LabelPair) []*dto.LabelPair {
	out := slices.Clone(own)
	for _, l := range p.constant {
		if !slices.ContainsFunc(own, func(o *dto.LabelPair) bool { return o.GetName() == l.Name }) {
			out = append(out, &dto.LabelPair{Name: &l.Name, Value: &l.Value})
		}
	}
	slices.SortFunc(out, func(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) })
	return out
}

// lines takes over what a writer of text gives, with the constant labels put in
// and the heads as the format wants them.
func (p *page) lines(write func(io.Writer)) {
	var text bytes.Buffer
	write(&text)
	var constant []byte
	for i, l := range p.constant {
		if i > 0 {
			constant = append(constant, ',')
		}
		constant = appendLabel(constant, l.Name, l.Value)
	}
	types := familyTypes(text.Bytes())
	family, wanted := "", false
	for line := range bytes.Lines(text.Bytes()) {
		name, isHead := lineFamily(line)
		if name == "" {
			continue
		}
		if name != family {
			family = name
			if wanted = p.claim(name, types[name].kind == "counter"); wanted {
				p.head(name, types[name].kind, types[name].help)
			}
		}
		if wanted && !isHead {
			p.relabel(line, len(name), constant)
		}
	}
}

// relabel writes one sample's line with more labels.
func (p *page) relabel(line []byte, name int, constant []byte) {
	b := append(p.buf[:0], line[:name]...)
	rest := line[name:]
	switch {
	case len(constant) == 0:
	case rest[0] == '{':
		b = append(b, '{')
		b = append(b, constant...)
		if rest = rest[1:]; !bytes.HasPrefix(rest, []byte("}")) {
			b = append(b, ',')
		}
	default:
		b = append(b, '{')
		b = append(b, constant...)
		b = append(b, '}')
	}
	p.flush(append(b, rest...))
}

type head struct{ kind, help string }

// familyTypes reads HELP and TYPE of a text.
func familyTypes(text []byte) map[string]head {
	out := map[string]head{}
	for line := range bytes.Lines(text) {
		field := strings.SplitN(strings.TrimRight(string(line), "\n"), " ", 4)
		if len(field) < 4 || field[0] != "#" {
			continue
		}
		h := out[field[2]]
		switch field[1] {
		case "HELP":
			h.help = strings.NewReplacer(`\\`, `\`, `\n`, "\n").Replace(field[3])
		case "TYPE":
			h.kind = field[3]
		}
		out[field[2]] = h
	}
	for name, h := range out {
		if h.kind == "" {
			h.kind = "untyped"
			out[name] = h
		}
	}
	return out
}

// lineFamily gives the family a line is about, and whether it is a HELP or TYPE.
func lineFamily(line []byte) (string, bool) {
	if bytes.HasPrefix(line, []byte("# HELP ")) || bytes.HasPrefix(line, []byte("# TYPE ")) {
		name, _, _ := bytes.Cut(line[len("# HELP "):], []byte(" "))
		return string(bytes.TrimSpace(name)), true
	}
	i := bytes.IndexAny(line, "{ ")
	if i <= 0 || line[0] == '#' {
		return "", false
	}
	return string(line[:i]), false
}

func appendLabel(b []byte, name, value string) []byte {
	b = append(b, name...)
	b = append(b, `="`...)
	b = appendEscaped(b, value, true)
	return append(b, '"')
}

// appendEscaped writes text on one line; quotes are escaped in label values, and
// in help texts of OpenMetrics.
func appendEscaped(b []byte, s string, quotes bool) []byte {
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\\':
			b = append(b, `\\`...)
		case c == '\n':
			b = append(b, `\n`...)
		case c == '"' && quotes:
			b = append(b, `\"`...)
		default:
			b = append(b, c)
		}
	}
	return b
}

// appendValue writes whole numbers as such: they are shorter and read better.
func appendValue(b []byte, v float64) []byte {
	switch {
	case math.IsInf(v, 1):
		return append(b, "+Inf"...)
	case math.IsInf(v, -1):
		return append(b, "-Inf"...)
	case math.IsNaN(v):
		return append(b, "NaN"...)
	case v == math.Trunc(v) && math.Abs(v) < 1<<53:
		return strconv.AppendInt(b, int64(v), 10)
	}
	return strconv.AppendFloat(b, v, 'g', -1, 64)
}
