package stats

import (
	"encoding/binary"
	"errors"
)

// TagStanding is a tag of the protocol's DescribeCluster. With it, and whatever value, a
// request asks for each broker's Standing, and in an answer each broker holds its own.
// Source: our own; other brokers and clients pass over tags that they do not know (KIP-482).
const TagStanding = 10_010

// Standing is what the cluster knows of a broker and the protocol has no field for.
type Standing struct {
	Epoch   int64 // of its registration: another number is another start of its process
	Leaving bool  // it is stopping: it serves still, and leads nothing new
}

const standingSize = 8 + 1

// Append appends it to b in the form of the tag.
func (s Standing) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(s.Epoch))
	if s.Leaving {
		return append(b, 1)
	}
	return append(b, 0)
}

// ReadStanding reads what Append wrote; what a later version adds behind it is passed over.
//
// Errors: it is cut short.
func ReadStanding(b []byte) (Standing, error) {
	if len(b) < standingSize {
		return Standing{}, errors.New("cannot read the standing of a broker: it is cut short")
	}
	return Standing{Epoch: int64(binary.BigEndian.Uint64(b)), Leaving: b[8] == 1}, nil
}
