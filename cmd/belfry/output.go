package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"gopkg.in/yaml.v3"
)

var outputs = []string{"table", "wide", "json", "yaml", "csv"}

// view is one answer in all its forms: rows for people, a body for programs.
type view struct {
	columns []column
	rows    [][]string
	body    any // encoded as JSON and YAML
}

// column is a heading; a wide one is left out of the plain table.
type column struct {
	name string
	wide bool
}

func columns(names ...string) []column {
	var cs []column
	for _, n := range names {
		name, wide := strings.CutPrefix(n, "+")
		cs = append(cs, column{name, wide})
	}
	return cs
}

func (c *client) checkOutput() error {
	if !slices.Contains(outputs, c.output) {
		return usageError{fmt.Errorf("--output %q is unknown: want one of %s", c.output, strings.Join(outputs, ", "))}
	}
	return nil
}

// show writes the view in the form that was asked for.
func (c *client) show(w io.Writer, v view) error {
	switch c.output {
	case "json":
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(v.body)
	case "yaml":
		return showYAML(w, v.body)
	case "csv":
		cw := csv.NewWriter(w)
		names := make([]string, len(v.columns))
		for i, col := range v.columns {
			names[i] = strings.ToLower(col.name)
		}
		if err := cw.Write(names); err != nil {
			return err
		}
		return cw.WriteAll(v.rows)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(cell func(int) string) {
		var cells []string
		for i, col := range v.columns {
			if !col.wide || c.output == "wide" {
				cells = append(cells, cell(i))
			}
		}
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	line(func(i int) string { return v.columns[i].name })
	for _, r := range v.rows {
		line(func(i int) string { return r[i] })
	}
	return tw.Flush()
}

// showYAML goes by way of JSON, so that both forms have the same field names.
func showYAML(w io.Writer, body any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	var node yaml.Node
	if err := yaml.Unmarshal(b, &node); err != nil {
		return err
	}
	block(&node)
	e := yaml.NewEncoder(w)
	e.SetIndent(2)
	return e.Encode(&node)
}

// block takes JSON's flow style off a node and all below it.
func block(n *yaml.Node) {
	n.Style &^= yaml.FlowStyle
	if n.Kind == yaml.ScalarNode {
		n.Style &^= yaml.DoubleQuotedStyle
	}
	for _, c := range n.Content {
		block(c)
	}
}
