package guard

import (
	"testing"
	"time"
)

func TestForecast(t *testing.T) {
	for _, c := range []struct {
		used, limit int64
		pace        float64
		want        time.Duration
		ok          bool
	}{
		{500, 950, 10, 45 * time.Second, true},
		{950, 950, -3, 0, true},
		{1000, 950, 10, 0, true},
		{500, 950, 0, 0, false},
		{500, 950, -1, 0, false},
		{0, 1 << 62, 1e-9, 0, false}, // beyond what a duration holds
	} {
		got, ok := Forecast(c.used, c.limit, c.pace)
		if got != c.want || ok != c.ok {
			t.Errorf("Forecast(%d, %d, %g) = %v, %v; want %v, %v", c.used, c.limit, c.pace, got, ok, c.want, c.ok)
		}
	}
}

func TestTrendFollowsTheLastMinutes(t *testing.T) {
	var trend Trend
	if _, ok := trend.Pace(); ok {
		t.Fatal("a pace from nothing")
	}
	at := epoch
	add := func(n int, every time.Duration, perSecond int64) {
		for range n {
			used := int64(0)
			if len(trend.readings) > 0 {
				used = trend.readings[len(trend.readings)-1].Used
			}
			at = at.Add(every)
			trend.Add(Reading{At: at, Used: used + perSecond*int64(every/time.Millisecond)/1000})
		}
	}
	add(1, time.Second, 0)
	if _, ok := trend.Pace(); ok {
		t.Fatal("a pace from one reading")
	}
	add(100, 5*time.Second, 1000)
	if pace, ok := trend.Pace(); !ok || pace < 999 || pace > 1001 {
		t.Errorf("pace %g, want 1000", pace)
	}
	add(1, time.Second, 50_000)
	if peak := trend.Peak(); peak != 50_000 {
		t.Errorf("peak %g, want 50000", peak)
	}
	add(6, 5*time.Second, 0)
	if peak := trend.Peak(); peak < 24_000 || peak > 26_000 {
		t.Errorf("peak %g half a minute later, want half", peak)
	}
	add(60, 5*time.Second, -200) // five minutes later the rise is forgotten
	if pace, _ := trend.Pace(); pace > 0 {
		t.Errorf("pace %g, want a falling one", pace)
	}
	if n := len(trend.readings); n > trendLength {
		t.Errorf("%d readings kept, limit %d", n, trendLength)
	}
}

func TestFastReadingsKeepTheSpan(t *testing.T) {
	var trend Trend
	for i := range 3000 {
		trend.Add(Reading{At: epoch.Add(time.Duration(i) * 100 * time.Millisecond), Used: int64(i)})
	}
	first, last := trend.readings[0], trend.readings[len(trend.readings)-1]
	if span := last.At.Sub(first.At); span < time.Minute {
		t.Errorf("the trend covers %v", span)
	}
	if pace, ok := trend.Pace(); !ok || pace < 9.9 || pace > 10.1 {
		t.Errorf("pace %g, want 10", pace)
	}
}

func TestNextCheck(t *testing.T) {
	const floor, interval = 100 * time.Millisecond, 5 * time.Second
	for _, c := range []struct {
		until   time.Duration
		filling bool
		want    time.Duration
	}{
		{0, false, interval}, {time.Hour, true, interval}, {4 * time.Second, true, 2 * time.Second},
		{50 * time.Millisecond, true, floor}, {0, true, floor},
	} {
		if got := NextCheck(c.until, c.filling, floor, interval); got != c.want {
			t.Errorf("NextCheck(%v, %v) = %v, want %v", c.until, c.filling, got, c.want)
		}
	}
	if got := NextCheck(0, true, time.Minute, interval); got != interval {
		t.Errorf("a slow probe stretches the pause to %v, beyond the interval", got)
	}
}
