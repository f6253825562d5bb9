package gossip

import (
	"encoding/binary"
	"errors"
)

// maxName bounds the name of a state.
const maxName = 64

// frame is one state, or part of one. A message is one or several: length of the name (one
// byte), name, length of the body (four bytes, big endian), body.
type frame struct {
	name string
	body []byte
}

func appendFrame(b []byte, name string, body []byte) []byte {
	b = append(b, byte(len(name)))
	b = append(b, name...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
	return append(b, body...)
}

// errFrame says that a message is not what appendFrame makes.
var errFrame = errors.New("it ends within a frame")

// readFrames splits a message; the bodies are parts of it.
func readFrames(b []byte) ([]frame, error) {
	var all []frame
	for len(b) > 0 {
		n := int(b[0])
		if n == 0 || n > maxName || len(b) < 1+n+4 {
			return nil, errFrame
		}
		name, rest := string(b[1:1+n]), b[1+n:]
		size := uint64(binary.BigEndian.Uint32(rest))
		if rest = rest[4:]; size > uint64(len(rest)) {
			return nil, errFrame
		}
		all = append(all, frame{name, rest[:size:size]})
		b = rest[size:]
	}
	return all, nil
}
