package controller

import (
	"strconv"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/topic"
)

// place of a replica whose disk has failed while its broker goes on.
type place struct {
	topic  topic.ID
	number int32
}

// circumstance is how a decision departs from the image: the brokers as they will be.
type circumstance struct {
	broker metadata.BrokerID // of whom active speaks; NoBroker: all are as in the image
	active bool
	lost   bool // broker came back without a clean stop
}

// asNow is the image as it is.
var asNow = circumstance{broker: metadata.NoBroker}

// situation gives what settle needs for one partition of a topic.
func (d *decision) situation(t *metadata.Topic, number int32, c circumstance) situation {
	v := d.topicRules(t)
	s := situation{min: v.min, unclean: v.unclean, lost: metadata.NoBroker}
	if c.lost {
		s.lost = c.broker
	}
	s.active = func(id metadata.BrokerID) bool {
		if d.offline != nil && d.offline(id, place{t.ID, number}) {
			return false
		}
		if id == c.broker {
			return c.active
		}
		return d.img.Broker(id).Active()
	}
	return s
}

// minInSync is the setting that decides what is acknowledged.
const minInSync = "min.insync.replicas"

// rules are the settings of a topic that elections need.
type rules struct {
	min     int
	unclean bool
}

// topicRules looks a topic's settings up. Why kept: a decision asks for each of its partitions.
func (d *decision) topicRules(t *metadata.Topic) rules {
	if r, ok := d.rules[t.ID]; ok {
		return r
	}
	r := d.rulesWith(d.img.Config(metadata.Resource{Kind: metadata.BrokerResource}), d.ownConfig(),
		d.img.Config(metadata.Resource{Kind: metadata.TopicResource, Name: t.Name}))
	if d.rules == nil {
		d.rules = make(map[topic.ID]rules)
	}
	d.rules[t.ID] = r
	return r
}

// rulesWith gives the rules under these settings made at run time.
func (d *decision) rulesWith(all, broker, topic map[string]string) rules {
	layers := config.Layers{File: d.file, DynamicDefault: all, DynamicBroker: broker, Own: topic}
	value := func(name string) string {
		s, ok := config.Lookup(config.Topic, name)
		if !ok {
			panic("BUG: there is no topic setting " + name)
		}
		return layers.Effective(s).Value
	}
	least, err := strconv.Atoi(value(minInSync))
	if err != nil {
		least = 1 // it came in under an older table
	}
	return rules{least, value("unclean.leader.election.enable") == "true"}
}

// ownConfig gives the settings made at run time for this node alone.
func (d *decision) ownConfig() map[string]string {
	return d.img.Config(metadata.Resource{Kind: metadata.BrokerResource, Name: strconv.Itoa(int(d.node))})
}

// settleWhere gives the changes of all partitions that are touched, one wish each.
func (d *decision) settleWhere(c circumstance, touched func(*metadata.Partition) bool) (wishes []wish) {
	for _, t := range d.img.Topics() {
		for n := range t.Partitions {
			p := &t.Partitions[n]
			if !touched(p) {
				continue
			}
			if next, changed := settle(*p, p.ISR, d.situation(t, int32(n), c)); changed {
				wishes = append(wishes, wish{records: []metadata.Record{&metadata.PartitionChanged{Topic: t.ID, Number: int32(n), State: next}}})
			}
		}
	}
	return wishes
}
