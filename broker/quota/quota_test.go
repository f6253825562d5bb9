package quota

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-mq/belfry/broker/golden"
)

// TestScripts plays testdata/*.txt: each line is "at what", the time since the beginning and
// one of rate, left, spend, pass, wait; what it gives stands behind the arrow.
func TestScripts(t *testing.T) {
	golden.Scripts(t, "testdata/*.txt", func(t *testing.T, text string) string {
		var b Bucket
		var got strings.Builder
		for line := range strings.Lines(text) {
			command, _, _ := strings.Cut(strings.TrimRight(line, "\n"), " →")
			got.WriteString(command)
			if f := strings.Fields(command); len(f) > 0 && f[0] != "#" {
				got.WriteString(play(t, &b, f))
			}
			got.WriteString("\n")
		}
		return got.String()
	})
}

func play(t *testing.T, b *Bucket, f []string) string {
	t.Helper()
	at, err := time.ParseDuration(f[0])
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_000_000, 0).Add(at)
	n := int64(0)
	if len(f) > 2 && f[2] != "unlimited" {
		if n, err = strconv.ParseInt(f[2], 10, 64); err != nil {
			t.Fatal(err)
		}
	} else if len(f) > 2 {
		n = Unlimited
	}
	switch f[1] {
	case "rate":
		b.SetRate(n, now)
	case "spend":
		b.Spend(n, now)
	case "pass":
		b.Pass(n, now)
	case "wait":
		return fmt.Sprintf(" → %v", b.Wait(n, now).Round(time.Microsecond))
	case "left":
	default:
		t.Fatalf("no command %q", f[1])
	}
	if left := b.Left(now); left != Unlimited {
		return fmt.Sprintf(" → %d left", left)
	}
	return " → everything"
}

// TestRateHolds spends at random times, as much as is left and sometimes more: the sum never
// passes what the rate, the burst and the last piece allow.
func TestRateHolds(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		rate := int64(1 + rnd.IntN(1_000_000))
		piece := int64(1 + rnd.IntN(2_000_000))
		begin := time.Unix(1_000_000, 0)
		now := begin
		var b Bucket
		b.SetRate(rate, now)
		sum := int64(0)
		for range 500 {
			if rnd.IntN(2) == 0 {
				now = now.Add(b.Wait(1+rnd.Int64N(rate), now))
			} else {
				now = now.Add(time.Duration(rnd.IntN(int(2 * time.Second))))
			}
			if b.Left(now) > 0 {
				n := 1 + rnd.Int64N(piece)
				b.Spend(n, now)
				sum += n
			}
			if most := float64(rate)*(now.Sub(begin)+burst).Seconds() + float64(piece) + 1; float64(sum) > most {
				t.Fatalf("seed %d: %d bytes in %v at %d bytes/s and pieces of %d, at most %.0f", seed, sum, now.Sub(begin), rate, piece, most)
			}
		}
	}
}

// TestWaitIsEnough: who waits as long as Wait says finds what it asked for.
func TestWaitIsEnough(t *testing.T) {
	for seed := range uint64(1000) {
		rnd := rand.New(rand.NewPCG(seed, 8))
		now := time.Unix(1_000_000, 0)
		var b Bucket
		b.SetRate(1+rnd.Int64N(1<<rnd.IntN(40)), now)
		b.Spend(rnd.Int64N(1<<rnd.IntN(30)), now)
		n := 1 + rnd.Int64N(b.Rate())
		wait := b.Wait(n, now)
		if wait == longest {
			continue
		}
		if left := b.Left(now.Add(wait)); left < n {
			t.Fatalf("seed %d: rate %d, %d left after %v, want %d", seed, b.Rate(), left, wait, n)
		}
	}
}

func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Unlimited, time.Now)
		l.Spend(1 << 40)
		if !l.Free() || l.Left() != Unlimited || l.Wait() != 0 {
			t.Fatalf("an unlimited limit has %d left and waits %v", l.Left(), l.Wait())
		}
		l.Set(1000)
		if l.Free() || l.Rate() != 1000 || l.Left() != 0 {
			t.Fatalf("a new limit of %d has %d left", l.Rate(), l.Left())
		}
		time.Sleep(l.Wait())
		if left := l.Left(); left != 100 {
			t.Fatalf("after the wait %d are left, want a tenth of a second's", left)
		}
		l.Spend(350)
		time.Sleep(l.Wait())
		if left := l.Left(); left != 100 {
			t.Fatalf("after the debt is paid %d are left", left)
		}
	})
}
