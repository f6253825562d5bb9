// Package topic names things: topics, their IDs and their partitions.
//
// It is a leaf: it holds no state and knows no other room. Invariant: a name
// that passed CheckName is safe to print and to send, but never becomes a path;
// paths are made from IDs.
package topic

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strconv"
)

// MaxName is the longest legal topic name in bytes.
// Source: Kafka, org.apache.kafka.common.internals.Topic.
const MaxName = 249

// Names of the topics that the broker keeps for itself.
const (
	ConsumerOffsets  = "__consumer_offsets"
	TransactionState = "__transaction_state"
)

// ID identifies a topic for its whole life; a topic made again under the same
// name has another one. The zero ID means "no topic".
type ID [16]byte

// NewID gives a random ID (UUID version 4) that is neither zero nor starts with
// '-' in its text form, so that tools may take it as an argument.
func NewID() ID {
	for {
		var id ID
		if _, err := rand.Read(id[:]); err != nil {
			panic("BUG: no randomness: " + err.Error())
		}
		id[6] = id[6]&0x0f | 0x40
		id[8] = id[8]&0x3f | 0x80
		if id.String()[0] != '-' {
			return id
		}
	}
}

// String gives the ID as Kafka prints it: URL-safe base64 without padding, 22 characters.
func (id ID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// IsZero tells whether the ID names no topic.
func (id ID) IsZero() bool { return id == ID{} }

// ParseID reads what String gives.
//
// Errors: the text is not 22 characters of URL-safe base64.
func ParseID(s string) (ID, error) {
	var id ID
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("cannot read topic ID %q: want 22 characters of URL-safe base64", s)
	}
	copy(id[:], b)
	return id, nil
}

// Partition names one partition of one topic.
type Partition struct {
	Topic     string
	Partition int32
}

// String gives "topic-partition", as Kafka's tools print it.
func (p Partition) String() string { return p.Topic + "-" + strconv.Itoa(int(p.Partition)) }

// CheckName tells what is wrong with a topic name, or nil.
//
// Errors: a sentence that names the rule; the caller adds the name.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("the empty string is not allowed")
	case name == "." || name == "..":
		return fmt.Errorf("'.' or '..' is not allowed")
	case len(name) > MaxName:
		return fmt.Errorf("the length of %d is longer than the %d characters allowed", len(name), MaxName)
	}
	for i := range len(name) {
		c := name[i]
		ok := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
		if !ok {
			return fmt.Errorf("character %q is not one of the ASCII alphanumerics, '.', '_' and '-'", c)
		}
	}
	return nil
}

// IsInternal tells whether the broker keeps the topic for itself.
func IsInternal(name string) bool { return name == ConsumerOffsets || name == TransactionState }
