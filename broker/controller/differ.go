package controller

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/metadata"
)

// Difference is a setting that must be the same on every node and is not.
type Difference struct {
	Setting string
	Values  []NodeValue // of each node in service that told its own, by ID
}

// NodeValue is what holds on one node.
type NodeValue struct {
	Node  metadata.BrokerID
	Value string // "": not set
}

// String tells what differs and what to do.
func (d Difference) String() string {
	said := make([]string, len(d.Values))
	for i, v := range d.Values {
		said[i] = fmt.Sprintf("%q on node %d", v.Value, v.Node)
		if v.Value == "" {
			said[i] = fmt.Sprintf("not set on node %d", v.Node)
		}
	}
	return fmt.Sprintf("%s is %s; give every node the same value in its file and restart it", d.Setting, strings.Join(said, ", "))
}

// UniformOf gives the settings of a node's file that must be the same on every node.
func UniformOf(file *config.Values) (told []metadata.Setting) {
	for _, s := range config.Table() {
		if s.Uniform {
			told = append(told, metadata.Setting{Name: s.Name, Value: file.String(s.Name)})
		}
	}
	return told
}

// maxValue bounds one value that is kept of a broker, in bytes.
const maxValue = 1024

// comparableOf gives what is kept of the settings that a broker told: those that this
// program compares. Why not all: the metadata must not hold whatever somebody sends.
func comparableOf(told []metadata.Setting) (kept []metadata.Setting) {
	for i, s := range told {
		row, known := config.Lookup(config.Node, s.Name)
		twice := slices.ContainsFunc(told[:i], func(o metadata.Setting) bool { return o.Name == s.Name })
		if known && row.Uniform && !twice && len(s.Value) <= maxValue {
			kept = append(kept, s)
		}
	}
	return kept
}

// Differences compares the nodes in service, setting by setting, in name order: what their
// files say, with what was set at run time over it. It is a pure function. A node that did
// not tell of a setting is left out: another version of the program may not know it.
func Differences(img *metadata.Image) (found []Difference) {
	all := img.Config(metadata.Resource{Kind: metadata.BrokerResource})
	by := map[string][]NodeValue{}
	for _, b := range img.Brokers() {
		if b.Fenced {
			continue
		}
		own := img.Config(metadata.Resource{Kind: metadata.BrokerResource, Name: strconv.Itoa(int(b.ID))})
		for _, s := range b.Settings {
			value := s.Value
			for _, layer := range []map[string]string{all, own} {
				if set, ok := layer[s.Name]; ok {
					value = set
				}
			}
			by[s.Name] = append(by[s.Name], NodeValue{b.ID, value})
		}
	}
	for name, values := range by {
		if slices.ContainsFunc(values, func(v NodeValue) bool { return v.Value != values[0].Value }) {
			found = append(found, Difference{name, values})
		}
	}
	slices.SortFunc(found, func(a, b Difference) int { return strings.Compare(a.Setting, b.Setting) })
	return found
}
