package dashboards

import (
	"fmt"
	"strings"
)

// Query is one expression of a board as Prometheus can run it: the variables have values.
type Query struct {
	Board  string // file name
	Panel  string // title; "annotation …" or "variable …" for those
	Expr   string
	Absent string // why it may give nothing on a healthy node under load; "" = a result is due
}

// String names a query in messages.
func (q Query) String() string { return fmt.Sprintf("%s, %s: %s", q.Board, q.Panel, q.Expr) }

// Values are what the variables of a board stand for. Broker, Topic and Group are patterns.
type Values struct {
	Instance             string
	Broker, Topic, Group string
	Interval             string // for $__rate_interval, such as "1m"
}

// Queries gives every expression of every board, those of variables and annotations too.
func Queries(v Values) []Query {
	fill := strings.NewReplacer(
		"$instance", v.Instance, "$broker", v.Broker, "$topic", v.Topic, "$group", v.Group, "$__rate_interval", v.Interval,
	).Replace
	var all []Query
	for _, b := range boards(func(string) (float64, bool) { return 0, false }) {
		m := b.model()
		for _, each := range m.Templating.List {
			if ask, ok := each.Query.(variableQuery); ok {
				all = append(all, Query{Board: b.file, Panel: "variable " + each.Name, Expr: fill(selectorOf(ask.Query))})
			}
		}
		for _, each := range m.Annotations.List {
			all = append(all, Query{Board: b.file, Panel: "annotation " + each.Name, Expr: fill(each.Expr)})
		}
		for _, p := range m.Panels {
			for _, t := range p.Targets {
				all = append(all, Query{Board: b.file, Panel: p.Title, Expr: fill(t.Expr), Absent: p.absent})
			}
		}
	}
	return all
}

// selectorOf turns label_values(selector, label) into a query that counts the values.
func selectorOf(ask string) string {
	inner := strings.TrimSuffix(strings.TrimPrefix(ask, "label_values("), ")")
	cut := strings.LastIndex(inner, ", ")
	return "count by (" + inner[cut+2:] + ") (" + inner[:cut] + ")"
}
