package group

import (
	"math"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestEndlessRetention commits with the largest retention, which some clients use for
// "for ever": added to the clock it must not become a time long gone.
func TestEndlessRetention(t *testing.T) {
	s := newShard()
	s.now = time.UnixMilli(1_700_000_000_000)
	r := kmsg.NewPtrOffsetCommitRequest()
	r.Version, r.RetentionTimeMillis = 2, math.MaxInt64
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	if o := s.newOffset(r, &p); o.expires != math.MaxInt64 {
		t.Errorf("the offset expires at %d, want never", o.expires)
	}
}
