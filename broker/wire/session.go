package wire

import (
	"log/slog"
	"net"
)

// Session is one connection.
type Session struct {
	ID       uint64
	Remote   net.Addr
	Listener string
	Public   bool
	// Software and its version are what the client says of itself in ApiVersions (KIP-511), "" before and where it
	// breaks the rules for such names. They are set before that request is handed over and may be read in Serve only.
	Software, SoftwareVersion string

	lastClient *string
	topics     map[string]string // names in Produce requests
}

// maxNames is how many topic names a session keeps.
const maxNames = 64

// topicName gives b as a string, the same one for the same name.
func (s *Session) topicName(b []byte) string {
	if name, ok := s.topics[string(b)]; ok {
		return name
	}
	if s.topics == nil || len(s.topics) >= maxNames {
		s.topics = make(map[string]string)
	}
	name := string(b)
	s.topics[name] = name
	return name
}

// clientID gives b as a string, the one of the request before if it is the same: clients do not change their names.
func (s *Session) clientID(b []byte) *string {
	if s.lastClient == nil || *s.lastClient != string(b) {
		id := string(b)
		s.lastClient = &id
	}
	return s.lastClient
}

// LogValue is what a log line says of a connection.
func (s *Session) LogValue() slog.Value {
	return slog.GroupValue(slog.Uint64("id", s.ID), slog.String("listener", s.Listener), slog.Any("remote", s.Remote))
}

const maxSoftwareName = 255

// softwareName gives name if KIP-511 allows it: letters, digits, inside also '-' and '.'.
func softwareName(name string) string {
	if len(name) > maxSoftwareName {
		return ""
	}
	for i, c := range []byte(name) {
		inner := i > 0 && i < len(name)-1
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', inner && (c == '-' || c == '.'):
		default:
			return ""
		}
	}
	return name
}

var _ slog.LogValuer = (*Session)(nil)
