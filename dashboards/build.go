package dashboards

import (
	"fmt"
	"strings"
)

// dataSource is the one that every panel, variable and annotation asks.
func dataSource() *source { return &source{Type: "prometheus", UID: "${datasource}"} }

// scopes are what @name in an expression stands for.
func scopes(expr string) string {
	return strings.NewReplacer(
		"@instance", `kafka_instance_id="$instance"`,
		"@broker", `kafka_instance_id="$instance",kafka_broker=~"$broker"`,
		"@topic", `kafka_instance_id="$instance",kafka_topics=~"$topic"`,
		"@group", `kafka_instance_id="$instance",kafka_groups=~"$group"`,
		"@both", `kafka_instance_id="$instance",kafka_topics=~"$topic",kafka_groups=~"$group"`,
	).Replace(expr)
}

// query is one expression and how its series are called.
type query struct{ expr, legend string }

func q(expr, legend string) query { return query{expr, legend} }

// shape is what a panel is besides its queries.
type shape struct {
	title, about string
	unit         string // Grafana's unit ID
	min, max     *float64
	alarm        *limit // where the alarm rule of the shown metric fires
	bad          *limit // where a figure is bad although no rule says so
	states       []mapped
	stacked      bool
	links        []link
	absent       string // why a query may give nothing in good health
}

// limit is a threshold; below tells that the bad side is below it.
type limit struct {
	value float64
	below bool
}

func number(v float64) *float64 { return &v }

func percent(s shape) shape {
	s.unit, s.min, s.max = "percent", number(0), number(100)
	return s
}

// stat is one figure in a strip.
func stat(s shape, expr string) *panel {
	p := newPanel("stat", s, []query{q(expr, "")}, true)
	p.Options = map[string]any{
		"colorMode": "value", "graphMode": "none", "justifyMode": "auto", "orientation": "auto", "textMode": "auto",
		"reduceOptions": map[string]any{"calcs": []string{"lastNotNull"}, "fields": "", "values": false},
	}
	return p
}

// chart is lines over time.
func chart(s shape, queries ...query) *panel {
	p := newPanel("timeseries", s, queries, false)
	custom := map[string]any{
		"drawStyle": "line", "lineWidth": 1, "fillOpacity": 8, "showPoints": "never", "spanNulls": false,
		"stacking": map[string]any{"mode": "none", "group": "A"},
	}
	if s.stacked {
		custom["stacking"], custom["fillOpacity"] = map[string]any{"mode": "normal", "group": "A"}, 25
	}
	if s.alarm != nil {
		custom["thresholdsStyle"] = map[string]any{"mode": "dashed"}
	}
	p.FieldConfig.Defaults.Custom = custom
	p.FieldConfig.Defaults.Color = map[string]any{"mode": "palette-classic"}
	p.Options = map[string]any{
		"legend":  map[string]any{"displayMode": "table", "placement": "bottom", "showLegend": true, "calcs": []string{"lastNotNull", "max"}},
		"tooltip": map[string]any{"mode": "multi", "sort": "desc"},
	}
	return p
}

// column is one value column of a table.
type column struct {
	title, unit, expr string
}

// table joins instant queries by their label: one row an object. The first column sorts, largest first.
func table(s shape, label, head string, columns ...column) *panel {
	var queries []query
	for _, c := range columns {
		queries = append(queries, q(c.expr, ""))
	}
	p := newPanel("table", s, queries, true)
	rename, order := map[string]any{label: head}, map[string]any{label: 0}
	for i := range p.Targets {
		p.Targets[i].Format = "table"
		name := "Value #" + p.Targets[i].RefID
		if len(columns) == 1 {
			name = "Value"
		}
		rename[name], order[name] = columns[i].title, i+1
		p.FieldConfig.Overrides = append(p.FieldConfig.Overrides, override{
			Matcher:    matcher{ID: "byName", Options: columns[i].title},
			Properties: []property{{ID: "unit", Value: columns[i].unit}},
		})
	}
	if len(s.links) > 0 {
		p.FieldConfig.Defaults.Links = nil
		p.FieldConfig.Overrides = append(p.FieldConfig.Overrides, override{
			Matcher:    matcher{ID: "byName", Options: head},
			Properties: []property{{ID: "links", Value: s.links}},
		})
	}
	p.Transformations = []transformation{
		{ID: "joinByField", Options: map[string]any{"byField": label, "mode": "outer"}},
		{ID: "filterFieldsByName", Options: map[string]any{"include": map[string]any{"pattern": "^(" + label + "|Value.*)$"}}},
		{ID: "organize", Options: map[string]any{"renameByName": rename, "indexByName": order}},
	}
	if len(columns) == 1 {
		p.Transformations = p.Transformations[1:]
	}
	p.Options = map[string]any{
		"showHeader": true, "cellHeight": "sm",
		"footer": map[string]any{"show": false, "reducer": []string{"sum"}, "fields": "", "enablePagination": true},
		"sortBy": []map[string]any{{"displayName": columns[0].title, "desc": true}},
	}
	p.FieldConfig.Defaults.Custom = map[string]any{"align": "auto", "filterable": true, "inspect": false}
	return p
}

func newPanel(kind string, s shape, queries []query, instant bool) *panel {
	p := &panel{Type: kind, Title: s.title, Description: s.about, Datasource: dataSource(), absent: s.absent}
	for i, each := range queries {
		p.Targets = append(p.Targets, target{
			RefID: string(rune('A' + i)), Datasource: *dataSource(), Expr: scopes(each.expr), LegendFormat: each.legend,
			Format: "time_series", Instant: instant, Range: !instant, EditorMode: "code",
		})
	}
	f := field{Unit: s.unit, Min: s.min, Max: s.max, Links: s.links, NoValue: "–"}
	f.Thresholds = &thresholds{Mode: "absolute", Steps: steps(s)}
	if len(s.states) > 0 {
		m := mapping{Type: "value", Options: map[string]mapped{}}
		for i, state := range s.states {
			state.Index = i
			m.Options[fmt.Sprint(i)] = state
		}
		f.Mappings = []mapping{m}
	}
	p.FieldConfig = &fieldConfig{Defaults: f, Overrides: []override{}}
	return p
}

// steps colours a scale: green until a limit, red beyond it; text colour where nothing is bad.
func steps(s shape) []step {
	l := s.alarm
	if l == nil {
		l = s.bad
	}
	switch {
	case l == nil:
		return []step{{Color: "text"}}
	case l.below:
		return []step{{Color: "red"}, {Color: "green", Value: &l.value}}
	}
	return []step{{Color: "green"}, {Color: "red", Value: &l.value}}
}

// width of a board in Grafana's grid.
const gridWidth = 24

// layout puts panels into rows, each with a headline, and numbers them.
type layout struct {
	panels []*panel
	y, id  int
}

// row places panels side by side, equally wide, as many in a line as given.
func (l *layout) row(title string, perLine, height int, panels ...*panel) {
	l.id++
	closed := false
	l.panels = append(l.panels, &panel{
		ID: l.id, Type: "row", Title: title, Collapsed: &closed, GridPos: gridPos{H: 1, W: gridWidth, X: 0, Y: l.y},
	})
	l.y++
	w := gridWidth / perLine
	for i, p := range panels {
		l.id++
		p.ID = l.id
		x := i % perLine * w
		if i > 0 && x == 0 {
			l.y += height
		}
		p.GridPos = gridPos{H: height, W: w, X: x, Y: l.y}
		l.panels = append(l.panels, p)
	}
	l.y += height
}
