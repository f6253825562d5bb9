package balance

import (
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"
)

func TestLimitedReplicas(t *testing.T) {
	ms := []Move{
		{Topic: "a", Number: 0, From: []int32{1, 2}, To: []int32{3, 1}},
		{Topic: "a", Number: 4, From: []int32{2}, To: []int32{2, 5}},
		{Topic: "b", Number: 0, From: []int32{1, 2}, To: []int32{2, 1}}, // only another leader
	}
	want := map[string]Lists{"a": {Leaders: "0:1,0:2,4:2", Followers: "0:3,4:5"}}
	if got := Limited(ms); !maps.Equal(got, want) {
		t.Errorf("limited are %v, want %v", got, want)
	}
	if got := Participants(ms); !slices.Equal(got, []int32{1, 2, 3, 5}) {
		t.Errorf("brokers %v take part", got)
	}
	with := Lists{Leaders: "0:1, 7:1", Followers: "*"}.With(want["a"])
	if with.Leaders != "0:1,7:1,0:2,4:2" || with.Followers != "*" {
		t.Errorf("together they are %v", with)
	}
}

func TestLeftovers(t *testing.T) {
	moving := func(topic string) bool { return topic == "moving" }
	over := Lists{Leaders: "0:1", Followers: "0:2"}
	for name, c := range map[string]struct {
		now  map[string]Lists
		want Leftover
	}{
		"nothing is set":      {map[string]Lists{"a": {}}, Leftover{Rates: true}},
		"all is over":         {map[string]Lists{"a": over, "b": {Leaders: "1:1"}}, Leftover{Leaders: []string{"a", "b"}, Followers: []string{"a"}, Rates: true}},
		"one is moved":        {map[string]Lists{"a": over, "moving": over}, Leftover{Leaders: []string{"a"}, Followers: []string{"a"}}},
		"the user's own wish": {map[string]Lists{"a": over, "b": {Followers: "*"}}, Leftover{Leaders: []string{"a"}, Followers: []string{"a"}}},
		"half of it":          {map[string]Lists{"a": {Leaders: "*", Followers: "3:1"}}, Leftover{Followers: []string{"a"}}},
	} {
		if got := Leftovers(c.now, moving); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: left over is %+v, want %+v", name, got, c.want)
		}
	}
}

func TestPace(t *testing.T) {
	begin := time.Unix(1000, 0)
	var p Pace
	if _, ok := p.Rest(); ok || p.Rate() != 0 {
		t.Error("nothing was seen, and there is a pace")
	}
	p.See(1000, begin)
	p.See(1200, begin.Add(time.Second)) // producers are faster
	if _, ok := p.Rest(); ok {
		t.Error("it gets more, and there is an end")
	}
	p.See(800, begin.Add(2*time.Second))
	if rest, ok := p.Rest(); p.Rate() != 100 || !ok || rest != 8*time.Second {
		t.Errorf("%v bytes/s, %v left; want 100 and 8 s", p.Rate(), rest)
	}
	// Half a minute later only the last half minute counts.
	for i := range 40 {
		p.See(int64(800-10*i), begin.Add(time.Duration(i+2)*time.Second))
	}
	if rate := p.Rate(); rate < 9.9 || rate > 10.1 {
		t.Errorf("%v bytes/s, want 10", rate)
	}
}
