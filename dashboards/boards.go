package dashboards

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Thresholds gives the value at which the alarm rule of a metric fires; false when no rule with a fixed value watches it.
type Thresholds func(metric string) (float64, bool)

// limit is the threshold of a metric's rule for a panel.
func (t Thresholds) limit(metric string) *limit {
	v, ok := t(metric)
	if !ok {
		return nil
	}
	return &limit{value: v}
}

// board is one dashboard before it is JSON.
type board struct {
	file, uid, title, about string
	variables               []variable
	layout                  layout
}

// boards are all of them. The file names are part of what is shipped.
func boards(t Thresholds) []board {
	return []board{instanceBoard(t), brokerBoard(t), topicBoard(t), groupBoard(t), alarmBoard(t)}
}

// Make gives the boards as JSON by file name; the same input gives the same bytes.
func Make(t Thresholds) map[string][]byte {
	files := map[string][]byte{}
	for _, b := range boards(t) {
		var out bytes.Buffer
		e := json.NewEncoder(&out)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		if err := e.Encode(b.model()); err != nil {
			panic(fmt.Sprintf("BUG: a dashboard cannot be encoded: %v", err))
		}
		files[b.file] = out.Bytes()
	}
	return files
}

func (b board) model() dashboard {
	return dashboard{
		UID: b.uid, Title: b.title, Description: b.about, Tags: []string{"belfry", "kafka"},
		GraphTooltip: 1, Refresh: "30s", SchemaVersion: schemaVersion, Timezone: "browser",
		Time:        timeRange{From: "now-3h", To: "now"},
		Annotations: annotations{List: []annotation{alarmsAnnotation()}},
		Links: []link{{
			Title: "Belfry", Type: "dashboards", Tags: []string{"belfry"}, Icon: "external link",
			IncludeVars: true, KeepTime: true,
		}},
		Templating: templating{List: b.variables},
		Panels:     b.layout.panels,
	}
}

func alarmsAnnotation() annotation {
	return annotation{
		Name: "Alarms", Datasource: *dataSource(), Enable: true, IconColor: "red",
		Expr: scopes(`belfry_alarm_state{@instance}`), Step: "30s",
		TitleFormat: "{{rule}}", TextFormat: "{{severity}} {{kafka_broker}} {{kafka_topics}} {{kafka_groups}}", TagKeys: "severity",
	}
}

// The variables, each chosen from what the ones before leave.

func sourceVariable() variable {
	return variable{Name: "datasource", Label: "Data source", Type: "datasource", Query: "prometheus", Refresh: 1}
}

func instanceVariable() variable {
	return asked("instance", "Instance", `label_values(broker_alive, kafka_instance_id)`, false)
}

func brokerVariable() variable {
	return asked("broker", "Broker", `label_values(broker_alive{@instance}, kafka_broker)`, true)
}

func topicVariable() variable {
	return asked("topic", "Topic", `label_values(topic_messages{@instance}, kafka_topics)`, true)
}

// groupVariable follows the topic: the groups that consume the chosen ones.
func groupVariable() variable {
	return asked("group", "Group", `label_values(topic_messages_remained{@topic}, kafka_groups)`, true)
}

// asked is a variable whose values a query gives. With several of them "All" is a pattern, not a list of all names.
func asked(name, label, ask string, several bool) variable {
	ask = scopes(ask)
	order := 5 // Grafana: by name
	if name == "broker" {
		order = 3 // by number
	}
	v := variable{
		Name: name, Label: label, Type: "query", Definition: ask, Datasource: dataSource(),
		Query:   variableQuery{Query: ask, RefID: "variable_" + name},
		Refresh: 2, Sort: order, Multi: several, IncludeAll: several,
	}
	if several {
		v.AllValue, v.Current = ".+", current{Text: "All", Value: "$__all"}
	}
	return v
}

// to links to another board, with the object of the clicked row.
func to(title, uid, variable, label string) []link {
	return []link{{
		Title: title,
		URL:   "/d/" + uid + "?${datasource:queryparam}&${instance:queryparam}&${__url_time_range}&var-" + variable + "=${__data.fields." + label + "}",
	}}
}

// lines links the lines of a chart to another board, by their label.
func lines(title, uid, variable, label string) []link {
	return []link{{
		Title: title,
		URL:   "/d/" + uid + "?${datasource:queryparam}&${instance:queryparam}&${__url_time_range}&var-" + variable + "=${__field.labels." + label + "}",
	}}
}

// Grafana's IDs of the boards.
const (
	instanceUID = "belfry-instance"
	brokerUID   = "belfry-broker"
	topicUID    = "belfry-topic"
	groupUID    = "belfry-group"
	alarmUID    = "belfry-alarms"
)
