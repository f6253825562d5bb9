package dashboards

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/belfry-mq/belfry/agent/metric"
	"github.com/belfry-mq/belfry/broker/golden"
	"github.com/belfry-mq/belfry/rules"
)

func thresholdsOfRules(t *testing.T) Thresholds {
	t.Helper()
	all, err := rules.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	return RuleThresholds(all)
}

func TestCommittedBoardsAreWhatTheCodeMakes(t *testing.T) {
	made := Make(thresholdsOfRules(t))
	if golden.Updating() {
		for name, content := range made {
			if err := os.WriteFile(filepath.Join("grafana", name), content, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		t.Log("written; run the test again without -update")
		return
	}
	shipped, err := fs.Glob(FS(), "*.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(shipped) != len(made) {
		t.Errorf("%d boards are committed, the code makes %d", len(shipped), len(made))
	}
	for name, content := range made {
		if committed, err := fs.ReadFile(FS(), name); err != nil || !bytes.Equal(committed, content) {
			t.Errorf("%s is not what the code makes: go test ./dashboards -update (%v)", name, err)
		}
	}
}

func TestThresholdsComeFromTheRules(t *testing.T) {
	limits := thresholdsOfRules(t)
	for id, want := range map[metric.ID]float64{
		metric.BrokerDiskUsage: 80, metric.BrokerCPUUsage: 90, metric.BrokerMemoryUsage: 90, metric.BrokerCPUCoreLoad: 2,
	} {
		if got, ok := limits(string(id)); !ok || got != want {
			t.Errorf("%s: %g, %v; want %g", id, got, ok, want)
		}
	}
	for _, id := range []metric.ID{metric.GroupMsgs, metric.BrokerAlive, metric.TopicMessages} {
		if v, ok := limits(string(id)); ok {
			t.Errorf("%s: %g, though no rule with a fixed value watches it", id, v)
		}
	}
	made := Make(limits)
	if !bytes.Contains(made["broker.json"], []byte(`"value": 80`)) || !bytes.Contains(made["broker.json"], []byte(`"dashed"`)) {
		t.Error("the disk alarm's threshold is not drawn")
	}
}

// each gives every panel of every board that shows something.
func each(t *testing.T, f func(board dashboard, p *panel)) {
	t.Helper()
	panels := 0
	for _, b := range boards(thresholdsOfRules(t)) {
		m := b.model()
		for _, p := range m.Panels {
			if p.Type != "row" {
				panels++
				f(m, p)
			}
		}
	}
	if panels < 60 {
		t.Fatalf("only %d panels seen", panels)
	}
}

func TestEveryPanelIsComplete(t *testing.T) {
	each(t, func(b dashboard, p *panel) {
		at := b.Title + ": " + p.Title
		if p.Title == "" || len(p.Description) < 20 || !strings.HasSuffix(p.Description, ".") {
			t.Errorf("%s: no title or no description in a sentence: %q", at, p.Description)
		}
		if p.FieldConfig.Defaults.Unit == "" {
			t.Errorf("%s: no unit", at)
		}
		if p.Datasource == nil || *p.Datasource != *dataSource() {
			t.Errorf("%s: asks %v, not the variable", at, p.Datasource)
		}
		if len(p.Targets) == 0 {
			t.Errorf("%s: asks nothing", at)
		}
		for _, target := range p.Targets {
			if target.Datasource != *dataSource() {
				t.Errorf("%s %s: asks %v, not the variable", at, target.RefID, target.Datasource)
			}
			if strings.Contains(target.Expr, "@") {
				t.Errorf("%s %s: a scope was not filled: %s", at, target.RefID, target.Expr)
			}
			if p.Type == "timeseries" && target.LegendFormat == "" {
				t.Errorf("%s %s: lines without names", at, target.RefID)
			}
		}
	})
}

func TestIDsAndPlacesAreUnique(t *testing.T) {
	uids := map[string]bool{}
	for _, b := range boards(thresholdsOfRules(t)) {
		m := b.model()
		if uids[m.UID] || m.UID == "" || len(m.UID) > 40 {
			t.Errorf("%s: UID %q is used twice or unfit", m.Title, m.UID)
		}
		uids[m.UID] = true
		ids, taken := map[int]bool{}, map[[2]int]string{}
		for _, p := range m.Panels {
			if ids[p.ID] || p.ID == 0 {
				t.Errorf("%s, %s: panel ID %d is used twice or zero", m.Title, p.Title, p.ID)
			}
			ids[p.ID] = true
			g := p.GridPos
			if g.X+g.W > gridWidth || g.W <= 0 || g.H <= 0 {
				t.Errorf("%s, %s: place %+v is outside the grid", m.Title, p.Title, g)
			}
			for x := g.X; x < g.X+g.W; x++ {
				for y := g.Y; y < g.Y+g.H; y++ {
					if other := taken[[2]int{x, y}]; other != "" {
						t.Fatalf("%s: %s lies on %s", m.Title, p.Title, other)
					}
					taken[[2]int{x, y}] = p.Title
				}
			}
		}
	}
}

func TestVariablesFollowEachOther(t *testing.T) {
	order := []string{"datasource", "instance", "broker", "topic", "group"}
	for _, b := range boards(thresholdsOfRules(t)) {
		m := b.model()
		sources, last, known := 0, -1, ""
		for _, v := range m.Templating.List {
			at := slices.Index(order, v.Name)
			if at <= last {
				t.Errorf("%s: variable %s is unknown or out of order", m.Title, v.Name)
			}
			last = at
			if v.Type == "datasource" {
				sources++
				continue
			}
			if v.Datasource == nil || *v.Datasource != *dataSource() {
				t.Errorf("%s: variable %s does not ask the data source", m.Title, v.Name)
			}
			if v.Name != "instance" && !strings.Contains(v.Definition, "$instance") {
				t.Errorf("%s: variable %s does not follow the instance", m.Title, v.Name)
			}
			known += " $" + v.Name
		}
		if sources != 1 {
			t.Errorf("%s: %d data source variables, want 1", m.Title, sources)
		}
		for _, p := range m.Panels {
			for _, target := range p.Targets {
				for _, name := range order[1:] {
					if strings.Contains(target.Expr, "$"+name) && !strings.Contains(known, "$"+name) {
						t.Errorf("%s, %s: uses $%s, which the board does not have", m.Title, p.Title, name)
					}
				}
			}
		}
	}
}

func TestLinksLeadToBoards(t *testing.T) {
	known := map[string][]string{}
	for _, b := range boards(thresholdsOfRules(t)) {
		for _, v := range b.variables {
			known[b.uid] = append(known[b.uid], v.Name)
		}
	}
	links := 0
	check := func(at string, l link) {
		links++
		path, query, _ := strings.Cut(l.URL, "?")
		uid := strings.TrimPrefix(path, "/d/")
		if known[uid] == nil || l.Title == "" {
			t.Errorf("%s: link %q leads to no board: %s", at, l.Title, l.URL)
		}
		for _, part := range strings.Split(query, "&") {
			if name, ok := strings.CutPrefix(part, "var-"); ok {
				name, _, _ = strings.Cut(name, "=")
				if !slices.Contains(known[uid], name) {
					t.Errorf("%s: board %s has no variable %s", at, uid, name)
				}
			}
		}
	}
	each(t, func(b dashboard, p *panel) {
		for _, l := range p.FieldConfig.Defaults.Links {
			check(b.Title+", "+p.Title, l)
		}
		for _, o := range p.FieldConfig.Overrides {
			for _, property := range o.Properties {
				if property.ID == "links" {
					for _, l := range property.Value.([]link) {
						check(b.Title+", "+p.Title, l)
					}
				}
			}
		}
	})
	if links < 10 {
		t.Errorf("only %d links between the boards", links)
	}
}

// family finds the catalogue's row of a series: a histogram's series have suffixes.
func family(name string) (m metric.Metric, part string, ok bool) {
	if m, ok = metric.Lookup(metric.ID(name)); ok {
		return m, "", !m.Histogram
	}
	for _, part := range []string{"_bucket", "_sum", "_count"} {
		if base, cut := strings.CutSuffix(name, part); cut {
			if m, ok := metric.Lookup(metric.ID(base)); ok && m.Histogram {
				return m, part, true
			}
		}
	}
	return metric.Metric{}, "", false
}

// rateCalls are the functions that a counter must be in.
var rateCalls = []string{"rate", "increase", "irate"}

func TestQueriesSuitTheCatalogue(t *testing.T) {
	p := parser.NewParser(parser.Options{})
	for _, q := range Queries(someValues) {
		expr, err := p.ParseExpr(q.Expr)
		if err != nil {
			t.Errorf("%s: %v", q, err)
			continue
		}
		parser.Inspect(expr, func(node parser.Node, path []parser.Node) error {
			switch n := node.(type) {
			case *parser.VectorSelector:
				checkSelector(t, q, n, path)
			case *parser.MatrixSelector:
				if q.Panel != "Rule files refused" && n.Range.String() != someInterval {
					t.Errorf("%s: a range of %v, not $__rate_interval", q, n.Range)
				}
			}
			return nil
		})
	}
}

func checkSelector(t *testing.T, q Query, n *parser.VectorSelector, path []parser.Node) {
	t.Helper()
	m, part, ok := family(n.Name)
	if !ok {
		t.Errorf("%s: metric %s is not in the catalogue", q, n.Name)
		return
	}
	call := ""
	grouped := []string{}
	for _, above := range path {
		switch a := above.(type) {
		case *parser.Call:
			if a.Func.Name != "histogram_quantile" {
				call = a.Func.Name
			}
		case *parser.AggregateExpr:
			grouped = append(grouped, a.Grouping...)
		}
	}
	counts := m.Counter || part != ""
	if counts != slices.Contains(rateCalls, call) {
		t.Errorf("%s: %s is a counter: %v, and stands in %q", q, n.Name, counts, call)
	}
	has := append([]string{metric.LabelInstance}, m.Labels...)
	if part == "_bucket" {
		has = append(has, "le")
	}
	if m.Open {
		has = append(has, metric.LabelBroker, metric.LabelTopic, metric.LabelPartition, metric.LabelGroup)
	}
	for _, matcher := range n.LabelMatchers {
		if matcher.Name != labels.MetricName && !slices.Contains(has, matcher.Name) {
			t.Errorf("%s: %s has no label %s", q, n.Name, matcher.Name)
		}
	}
	for _, name := range grouped {
		if !slices.Contains(has, name) {
			t.Errorf("%s: %s has no label %s to group by", q, n.Name, name)
		}
	}
	if scoped := slices.ContainsFunc(n.LabelMatchers, func(m *labels.Matcher) bool { return m.Name == metric.LabelInstance }); !scoped && q.Panel != "variable instance" {
		t.Errorf("%s: %s of all instances", q, n.Name)
	}
}

// units are Grafana's for the catalogue's.
var units = map[string][]string{
	"count": {"short", "none"}, "byte": {"bytes"}, "byte/s": {"Bps"}, "count/s": {"cps", "reqps"}, "ms": {"ms"}, "s": {"s"},
	"%": {"percent"}, "ratio": {"none"}, "bool": {"none", "short"},
}

func TestUnitsAreTheCatalogues(t *testing.T) {
	p := parser.NewParser(parser.Options{})
	each(t, func(b dashboard, panel *panel) {
		for i, target := range panel.Targets {
			unit := panel.FieldConfig.Defaults.Unit
			if panel.Type == "table" && len(panel.FieldConfig.Overrides) > i && panel.FieldConfig.Overrides[i].Properties[0].ID == "unit" {
				unit = panel.FieldConfig.Overrides[i].Properties[0].Value.(string)
			}
			fill := strings.ReplaceAll(target.Expr, "$__rate_interval", someInterval)
			expr, err := p.ParseExpr(fill)
			if err != nil {
				t.Fatal(err)
			}
			want := unitOf(expr)
			if !slices.Contains(units[want], unit) {
				t.Errorf("%s, %s: unit %s for %q: %s", b.Title, panel.Title, unit, want, target.Expr)
			}
		}
	})
}

// unitOf derives the unit of an expression from its first metric and what is done to it.
func unitOf(expr parser.Expr) string {
	unit := ""
	parser.Inspect(expr, func(node parser.Node, path []parser.Node) error {
		n, ok := node.(*parser.VectorSelector)
		if !ok || unit != "" {
			return nil
		}
		m, part, _ := family(n.Name)
		unit = m.Unit
		if part == "_count" {
			unit = "count"
		}
		for _, above := range path {
			switch a := above.(type) {
			case *parser.Call:
				if part != "_bucket" && slices.Contains([]string{"rate", "deriv"}, a.Func.Name) {
					unit += "/s"
				}
			case *parser.AggregateExpr:
				if a.Op == parser.COUNT {
					unit = "count"
				}
			}
		}
		return nil
	})
	return unit
}

func TestBoardsAreReadableJSON(t *testing.T) {
	for name, content := range Make(thresholdsOfRules(t)) {
		var m map[string]any
		if err := json.Unmarshal(content, &m); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if bytes.Contains(content, []byte(`\u003`)) {
			t.Errorf("%s: operators are escaped", name)
		}
		if m["schemaVersion"] != float64(schemaVersion) || m["uid"] == "" {
			t.Errorf("%s: schema %v, UID %v", name, m["schemaVersion"], m["uid"])
		}
	}
}
