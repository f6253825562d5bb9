// Package audit keeps who did what and when: every management operation and
// every act of the node itself, successful or not, as one line of JSON in a file
// a day.
//
// It is not the log of the program (that is slog) and not the history of the
// metrics. Invariant: an event that Record took is either on the disk, in
// memory waiting for the disk, or counted as dropped; Record never waits, so
// that neither the guard nor an alarm stands still because a disk does.
//
// Road in: Record. Road out: Query, and the files themselves, which any tool
// that reads JSON lines understands.
package audit

import (
	"fmt"
	"strings"
	"time"
)

// Level says how much an event matters.
type Level string

// The levels.
const (
	Normal   Level = "normal"   // as it should be
	Warning  Level = "warning"  // worth a look: a deletion, a refused operation
	Incident Level = "incident" // the service or its data suffered or will
)

// maxText bounds request and response of an event, in bytes; longer ones are
// cut and say so.
const maxText = 16 << 10

// Event is one thing that happened.
type Event struct {
	ID         string    `json:"id"`                    // unique; Record gives one when it is empty
	Time       time.Time `json:"time"`                  // Record sets the present when it is zero
	Name       string    `json:"name"`                  // what was done, e.g. "Kafka_create_topicSuccess" or "capacityGuardDelete"
	Level      Level     `json:"level"`                 // Record sets Normal when it is empty
	Resource   string    `json:"resource"`              // kind of thing: "instance", "broker", "topic", "alarm"
	ResourceID string    `json:"resource_id,omitempty"` // which one: name or ID
	User       string    `json:"user,omitempty"`        // principal; empty when the node acted by itself
	Source     string    `json:"source,omitempty"`      // where it came from: client address, or room, e.g. "guard"
	Request    string    `json:"request,omitempty"`     // what was asked, as text or JSON; no secrets; cut at 16 KiB
	Response   string    `json:"response,omitempty"`    // what was answered; cut at 16 KiB
	Code       int       `json:"code"`                  // HTTP status or Kafka error code of the answer; 0 = done
}

// Filter chooses events; the zero value takes all of them. Several conditions
// have to hold together.
type Filter struct {
	Name       string // part of the name, upper and lower case alike
	ID         string
	Resource   string
	ResourceID string
	User       string
	Source     string
	Level      Level
	From, To   time.Time // From included, To excluded; zero = open
	Limit      int       // at most so many, the newest; 0 = 1000
}

// defaultLimit answers a Filter without a limit: a page, not the whole week.
const defaultLimit = 1000

func (f Filter) matches(e *Event) bool {
	same := func(want, have string) bool { return want == "" || want == have }
	switch {
	case f.Name != "" && !strings.Contains(strings.ToLower(e.Name), strings.ToLower(f.Name)):
		return false
	case !same(f.ID, e.ID), !same(f.Resource, e.Resource), !same(f.ResourceID, e.ResourceID):
		return false
	case !same(f.User, e.User), !same(f.Source, e.Source), !same(string(f.Level), string(e.Level)):
		return false
	case !f.From.IsZero() && e.Time.Before(f.From):
		return false
	case !f.To.IsZero() && !e.Time.Before(f.To):
		return false
	}
	return true
}

func cut(s string) string {
	if len(s) <= maxText {
		return s
	}
	return fmt.Sprintf("%s… (%d bytes cut)", strings.ToValidUTF8(s[:maxText], ""), len(s)-maxText)
}
