package config

import "math"

// Flavor is a size class of brokers.
// Source: product specification, "Flavors and limits".
type Flavor struct {
	Name                string
	TPS                 int // messages of 1 KB a second and broker
	PartitionsPerBroker int
	GroupsPerBroker     int // advised
	Connections         int // per broker
	TrafficMB           int // MB/s per broker
}

// Flavors gives all size classes, the unlimited "custom" first.
func Flavors() []Flavor {
	return []Flavor{
		{Name: "custom", PartitionsPerBroker: 0, Connections: math.MaxInt32},
		{"kafka.2u4g.cluster", 30_000, 250, 20, 2_000, 100},
		{"kafka.4u8g.cluster", 100_000, 500, 100, 4_000, 200},
		{"kafka.8u16g.cluster", 150_000, 1_000, 150, 4_000, 250},
		{"kafka.12u24g.cluster", 200_000, 1_500, 200, 4_000, 375},
		{"kafka.16u32g.cluster", 250_000, 2_000, 200, 4_000, 500},
	}
}

func flavorNames() []string {
	var names []string
	for _, f := range Flavors() {
		names = append(names, f.Name)
	}
	return names
}

// FlavorOf gives the size class that the settings name.
func FlavorOf(v *Values) Flavor {
	name := v.String("instance.flavor")
	for _, f := range Flavors() {
		if f.Name == name {
			return f
		}
	}
	panic("BUG: flavor " + name + " passed its check")
}

// PartitionLimit gives the most partitions that an instance of so many brokers may have
// (replicas and internal topics not counted); 0 = no limit.
func PartitionLimit(v *Values, brokers int) int64 {
	if n := v.Int("instance.partition.limit"); n > 0 {
		return n
	}
	return int64(FlavorOf(v).PartitionsPerBroker) * int64(brokers)
}
