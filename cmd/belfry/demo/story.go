package demo

import (
	"fmt"
	"slices"
	"strings"
)

// The roads that a notification takes.
const (
	byWebhook = "webhook"
	byMail    = "mail"
	bySMS     = "sms"
)

var roads = [...]string{byWebhook, byMail, bySMS}

// The alarms that the story is about.
const (
	diskAlarm  = "broker_disk_usage"
	guardAlarm = "guard_active"
)

// notice is one alarm in one notification.
type notice struct {
	rule     string
	resolved bool
}

func (n notice) String() string {
	if n.resolved {
		return n.rule + " resolved"
	}
	return n.rule + " firing"
}

// Chapters of the story, in their order.
const (
	filling = iota // load until the disk alarm has reached everybody
	acting         // load on until the guard's alarm has
	relief         // the load stops, old messages go, until both alarms are resolved everywhere
	over
)

// wanted is what every road has to bring before a chapter ends.
var wanted = [...][]notice{
	filling: {{rule: diskAlarm}},
	acting:  {{rule: guardAlarm}},
	relief:  {{rule: diskAlarm, resolved: true}, {rule: guardAlarm, resolved: true}},
}

// story follows what arrives: a state machine without clock or socket.
type story struct {
	chapter int
	arrived map[string][]notice // by road
}

func newStory() *story { return &story{arrived: map[string][]notice{}} }

// hear notes what came by a road; the chapter moves on when all that it waits for has come.
func (s *story) hear(road string, notices ...notice) {
	s.arrived[road] = append(s.arrived[road], notices...)
	for s.chapter != over && len(s.missing()) == 0 {
		s.chapter++
	}
}

// missing names what the present chapter still waits for.
func (s *story) missing() []string {
	if s.chapter == over {
		return nil
	}
	var all []string
	for _, road := range roads {
		for _, n := range wanted[s.chapter] {
			if !slices.Contains(s.arrived[road], n) {
				all = append(all, fmt.Sprintf("%s by %s", n, road))
			}
		}
	}
	return all
}

// twice names notices of the story that a road brought more than once.
func (s *story) twice() []string {
	var all []string
	for _, road := range roads {
		for _, n := range slices.Concat(wanted[:]...) {
			count := 0
			for _, got := range s.arrived[road] {
				if got == n {
					count++
				}
			}
			if count > 1 {
				all = append(all, fmt.Sprintf("%s by %s %d times", n, road, count))
			}
		}
	}
	return all
}

// line shortens a text to one line for the terminal.
func line(text string, width int) string {
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > width {
		return string(runes[:width-1]) + "…"
	}
	return text
}
