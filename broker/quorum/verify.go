package quorum

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	walsegment "github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// Frames of a log segment.
// Source: hashicorp/raft-wal, segment format version 0. After a header of 32
// bytes come frames padded to 8 bytes: type 1 | 0 0 0 | length or CRC 4 | payload.
// A commit frame's CRC-32C covers everything since the commit frame before it,
// the first one's everything since the start of the file.
const (
	segmentHead = 32
	frameHead   = 8
	frameIndex  = walsegment.FrameIndex
	frameEntry  = walsegment.FrameEntry
	frameCommit = walsegment.FrameCommit
)

// verifyLog checks the CRC of everything in the log. Why: the library checks the
// last write only, and an entry that rots elsewhere would be believed. It gives
// the highest index that is damaged, 0 for none.
func verifyLog(dir string, segments []types.SegmentInfo, last uint64) (bad uint64, err error) {
	for _, s := range segments {
		path := filepath.Join(dir, walsegment.FileName(s))
		b, err := os.ReadFile(path)
		if err != nil {
			return 0, fmt.Errorf("cannot read metadata log %q: %w", path, err)
		}
		end := last
		if !s.SealTime.IsZero() {
			end = s.MaxIndex
		}
		bad = max(bad, verifySegment(b, s.BaseIndex, end))
	}
	return bad, nil
}

// verifySegment gives the highest damaged index up to end in one segment, 0 for none.
func verifySegment(b []byte, base, end uint64) (bad uint64) {
	next, from := base, 0 // the next entry's index, the start of what the next CRC covers
	for at := segmentHead; at+frameHead <= len(b); {
		value := binary.LittleEndian.Uint32(b[at+4:])
		size := 0
		switch b[at] {
		case frameEntry:
			next++
			size = int(value)
		case frameIndex:
			size = int(value)
		case frameCommit:
			if crc32.Checksum(b[from:at], castagnoli) != value && next-1 <= end {
				bad = next - 1
			}
			from = at + frameHead
		default:
			at = len(b)
			continue
		}
		at += (frameHead + size + 7) &^ 7
	}
	if next <= end && end >= base {
		return end // the rest of the segment cannot be found
	}
	return bad
}
