package api_test

import (
	"hash/crc32"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// messageSet gives one message as clients before 0.11 send it: magic 0 or 1, no compression.
func messageSet(t *testing.T, magic int8, value string, timestamp int64) []byte {
	t.Helper()
	if magic == 0 {
		m := kmsg.MessageV0{Magic: 0, Key: []byte("k"), Value: []byte(value)}
		m.MessageSize = int32(len(m.AppendTo(nil)) - 12)
		m.CRC = int32(crc32.ChecksumIEEE(m.AppendTo(nil)[16:]))
		return m.AppendTo(nil)
	}
	m := kmsg.MessageV1{Magic: 1, Timestamp: timestamp, Key: []byte("k"), Value: []byte(value)}
	m.MessageSize = int32(len(m.AppendTo(nil)) - 12)
	m.CRC = int32(crc32.ChecksumIEEE(m.AppendTo(nil)[16:]))
	return m.AppendTo(nil)
}
