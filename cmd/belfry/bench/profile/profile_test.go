package profile

import (
	"hash/crc32"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestShares takes a profile of this process, over HTTP, while it computes checksums.
func TestShares(t *testing.T) {
	s := httptest.NewServer(new(Recorder))
	defer s.Close()
	r := Remote(strings.TrimPrefix(s.URL, "http://"))
	if _, err := r.Stop(); err == nil {
		t.Error("a profile that was not started was stopped")
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	if err := new(Recorder).Start(); err == nil {
		t.Error("two profiles at the same time")
	}
	data := make([]byte, 1<<20)
	var sum uint32
	for begin := time.Now(); time.Since(begin) < 300*time.Millisecond; {
		sum ^= crc32.ChecksumIEEE(data)
		data[0]++
	}
	b, err := r.Stop()
	if err != nil {
		t.Fatal(err)
	}
	all, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	shares := Shares(all)
	if len(shares) == 0 || shares[0].Name != "CRC" || shares[0].Part < 0.5 || sum == 1 {
		t.Errorf("the time went to %v", shares)
	}
	for n := range len(b) {
		if _, err := Parse(b[:n]); err == nil {
			t.Errorf("%d of %d bytes were read as a profile", n, len(b))
		}
	}
}

func TestSharesRules(t *testing.T) {
	got := Shares([]Sample{
		{[]string{"internal/runtime/syscall.Syscall6", "syscall.write", "internal/poll.(*FD).Write", "net.(*netFD).Write", "github.com/twmb/franz-go/pkg/kgo.(*brokerCxn).writeConn"}, 30},
		{[]string{"internal/runtime/syscall.Syscall6", "syscall.write", "internal/poll.(*FD).Write", "os.(*File).Write", ours + "broker/storage/disk.(*file).Write"}, 20},
		{[]string{"x.y", kgo + "(*Client).Produce"}, 45},
		{[]string{"x.y"}, 5},
	})
	want := []Share{{"client's own work", 0.45}, {"writing to sockets", 0.3}, {"writing files", 0.2}, {"other", 0.05}}
	if len(got) != len(want) {
		t.Fatalf("got %v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %v, want %v", got[i], want[i])
		}
	}
	if s := Shares(nil); s != nil {
		t.Errorf("shares of nothing: %v", s)
	}
}
