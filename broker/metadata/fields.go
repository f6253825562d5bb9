package metadata

import "github.com/belfry-mq/belfry/broker/record"

// The fields of each record, in the order in which FORMAT.md lists them.

func (r *ClusterNamed) encode(e *encoder) { e.text(r.ID); e.int(r.Created) }
func (r *ClusterNamed) decode(d *decoder) { r.ID, r.Created = d.text(), d.int() }

func (r *TopicCreated) encode(e *encoder) { e.text(r.Name); e.id(r.ID); e.int(r.Created) }
func (r *TopicCreated) decode(d *decoder) { r.Name, r.ID, r.Created = d.text(), d.id(), d.int() }

func (r *TopicRemoved) encode(e *encoder) { e.id(r.ID) }
func (r *TopicRemoved) decode(d *decoder) { r.ID = d.id() }

func (r *PartitionCreated) encode(e *encoder) {
	e.id(r.Topic)
	e.int(int64(r.Number))
	r.State.encode(e)
}
func (r *PartitionCreated) decode(d *decoder) {
	r.Topic, r.Number = d.id(), d.int32()
	r.State.decode(d)
}

func (r *PartitionChanged) encode(e *encoder) {
	e.id(r.Topic)
	e.int(int64(r.Number))
	r.State.encode(e)
}
func (r *PartitionChanged) decode(d *decoder) {
	r.Topic, r.Number = d.id(), d.int32()
	r.State.decode(d)
}

func (p *Partition) encode(e *encoder) {
	e.int(int64(p.Leader))
	e.int(int64(p.LeaderEpoch))
	e.int(int64(p.PartitionEpoch))
	e.brokers(p.Replicas)
	e.brokers(p.ISR)
	e.brokers(p.ELR)
	e.brokers(p.Adding)
	e.brokers(p.Removing)
	e.ids(p.Dirs)
}

func (p *Partition) decode(d *decoder) {
	p.Leader = BrokerID(d.int32())
	p.LeaderEpoch = record.Epoch(d.int32())
	p.PartitionEpoch = d.int32()
	p.Replicas = d.brokers()
	p.ISR = d.brokers()
	p.ELR = d.brokers()
	p.Adding = d.brokers()
	p.Removing = d.brokers()
	p.Dirs = d.ids()
}

func (r Resource) encode(e *encoder) { e.int(int64(r.Kind)); e.text(r.Name) }
func (r *Resource) decode(d *decoder) {
	k := d.int16()
	if k < -128 || k > 127 {
		d.fail("%d is no kind of resource", k)
	}
	r.Kind, r.Name = int8(k), d.text()
}

func (r *ConfigSet) encode(e *encoder) { r.Resource.encode(e); e.text(r.Name); e.text(r.Value) }
func (r *ConfigSet) decode(d *decoder) { r.Resource.decode(d); r.Name, r.Value = d.text(), d.text() }

func (r *ConfigRemoved) encode(e *encoder) { r.Resource.encode(e); e.text(r.Name) }
func (r *ConfigRemoved) decode(d *decoder) { r.Resource.decode(d); r.Name = d.text() }

// minEndpoint is the fewest bytes an endpoint takes: two lengths, two numbers.
const minEndpoint = 4

// minSetting is the fewest bytes a setting takes: two lengths.
const minSetting = 2

func (r *BrokerRegistered) encode(e *encoder) {
	b := &r.Broker
	e.int(int64(b.ID))
	e.int(b.Epoch)
	e.id(b.Incarnation)
	e.text(b.Rack)
	e.flag(b.Fenced)
	e.length(len(b.Endpoints))
	for _, p := range b.Endpoints {
		e.text(p.Listener)
		e.text(p.Host)
		e.int(int64(p.Port))
		e.int(int64(p.Security))
	}
	if b.Leaving || len(b.Settings) > 0 {
		e.flag(b.Leaving)
	}
	if len(b.Settings) > 0 {
		e.length(len(b.Settings))
		for _, s := range b.Settings {
			e.text(s.Name)
			e.text(s.Value)
		}
	}
}

func (r *BrokerRegistered) decode(d *decoder) {
	b := &r.Broker
	b.ID = BrokerID(d.int32())
	b.Epoch = d.int()
	b.Incarnation = d.id()
	b.Rack = d.text()
	b.Fenced = d.flag()
	if n := d.count(minEndpoint); n > 0 {
		b.Endpoints = make([]Endpoint, n)
	}
	for i := range b.Endpoints {
		b.Endpoints[i] = Endpoint{Listener: d.text(), Host: d.text(), Port: d.int32(), Security: d.int16()}
	}
	if len(d.b) > 0 { // only where it is true, or more follows
		b.Leaving = d.flag()
	}
	if len(d.b) > 0 { // only where it told any
		if n := d.count(minSetting); n > 0 {
			b.Settings = make([]Setting, n)
		}
		for i := range b.Settings {
			b.Settings[i] = Setting{Name: d.text(), Value: d.text()}
		}
	}
}

func (r *BrokerFenced) encode(e *encoder) { e.int(int64(r.ID)); e.int(r.Epoch) }
func (r *BrokerFenced) decode(d *decoder) { r.ID, r.Epoch = BrokerID(d.int32()), d.int() }

func (r *BrokerUnfenced) encode(e *encoder) { e.int(int64(r.ID)); e.int(r.Epoch) }
func (r *BrokerUnfenced) decode(d *decoder) { r.ID, r.Epoch = BrokerID(d.int32()), d.int() }

func (r *BrokerLeaving) encode(e *encoder) { e.int(int64(r.ID)); e.int(r.Epoch) }
func (r *BrokerLeaving) decode(d *decoder) { r.ID, r.Epoch = BrokerID(d.int32()), d.int() }

func (r *BrokerUnregistered) encode(e *encoder) { e.int(int64(r.ID)); e.int(r.Epoch) }
func (r *BrokerUnregistered) decode(d *decoder) { r.ID, r.Epoch = BrokerID(d.int32()), d.int() }

func (r *ProducerBlock) encode(e *encoder) { e.int(r.First); e.int(r.Count) }
func (r *ProducerBlock) decode(d *decoder) { r.First, r.Count = d.int(), d.int() }

func (r *FeatureSet) encode(e *encoder) { e.text(r.Name); e.int(int64(r.Level)) }
func (r *FeatureSet) decode(d *decoder) { r.Name, r.Level = d.text(), d.int16() }

func (r *LeadershipRenewed) encode(e *encoder) { e.int(int64(r.ID)) }
func (r *LeadershipRenewed) decode(d *decoder) { r.ID = BrokerID(d.int32()) }
