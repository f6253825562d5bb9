package journal

import "testing"

// The wanted values are Java's String.hashCode, worked out by its definition over UTF-16.
func TestPartitionOf(t *testing.T) {
	for _, c := range []struct {
		id   string
		n    int
		want int32
	}{
		{"", 50, 0},
		{"a", 50, 47},
		{"hello", 50, 22},
		{"my-consumer-group", 50, 13},
		{"console-consumer-12345", 50, 6},
		{"grüße", 50, 23},
		{"😀", 50, 49},                 // two UTF-16 units
		{"zzzzzz", 50, 14},            // a negative hash: its absolute value, not its low bits
		{"polygenelubricants", 50, 0}, // the smallest int, which has no absolute value
		{"my-consumer-group", 1, 0},
	} {
		if got := PartitionOf(c.id, c.n); got != c.want {
			t.Errorf("ID %q of %d is in partition %d, want %d", c.id, c.n, got, c.want)
		}
	}
}
