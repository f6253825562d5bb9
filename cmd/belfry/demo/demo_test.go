package demo

import (
	"slices"
	"strings"
	"testing"
)

func TestStoryTurnsWhenEveryRoadHasBroughtIt(t *testing.T) {
	s := newStory()
	disk, guard := notice{rule: diskAlarm}, notice{rule: guardAlarm}
	over1, over2 := notice{diskAlarm, true}, notice{guardAlarm, true}
	for _, step := range []struct {
		road    string
		notices []notice
		chapter int
	}{
		{byWebhook, []notice{disk}, filling},
		{byWebhook, []notice{{rule: "broker_cpu_usage"}}, filling},
		{byMail, []notice{disk, guard}, filling},
		{bySMS, []notice{disk}, acting},
		{bySMS, []notice{guard}, acting},
		{byWebhook, []notice{guard}, relief},
		{byWebhook, []notice{over1, over2}, relief},
		{byMail, []notice{over1}, relief},
		{bySMS, []notice{over1, over2}, relief},
		{byMail, []notice{over2}, over},
		{bySMS, []notice{disk}, over},
	} {
		if s.hear(step.road, step.notices...); s.chapter != step.chapter {
			t.Errorf("%s %v: chapter %d, want %d", step.road, step.notices, s.chapter, step.chapter)
		}
	}
	if got := s.twice(); !slices.Equal(got, []string{diskAlarm + " firing by sms 2 times"}) {
		t.Errorf("twice: %q", got)
	}
}

func TestStoryNamesWhatIsMissing(t *testing.T) {
	s := newStory()
	s.hear(byMail, notice{rule: diskAlarm})
	want := []string{"broker_disk_usage firing by webhook", "broker_disk_usage firing by sms"}
	if got := s.missing(); !slices.Equal(got, want) {
		t.Errorf("missing %q", got)
	}
}

func TestNotices(t *testing.T) {
	body := `{"status":"firing","alerts":[{"status":"resolved","labels":{"alertname":"broker_disk_usage","severity":"critical","kafka_broker":"0"},"annotations":{"summary":"The disk fills up"}}]}`
	if got := fromWebhook(body); !slices.Equal(got, []notice{{diskAlarm, true}}) {
		t.Errorf("webhook: %v", got)
	}
	if got := describeWebhook(body); got != "resolved broker_disk_usage [critical] broker 0: The disk fills up" {
		t.Errorf("webhook: %s", got)
	}
	if fromWebhook("nonsense") != nil || describeWebhook("nonsense") != "nonsense" {
		t.Error("a body that is none has alarms")
	}
	for text, want := range map[string][]notice{
		"[OK] broker_disk_usage: broker 0, value 63.1 %":                       {{diskAlarm, true}},
		"[CRITICAL] guard_active: broker 0, value 1; [OK] broker_cpu_usage: b": {{rule: guardAlarm}, {"broker_cpu_usage", true}},
		"[2 ALARM, 0 OK] something":                                            nil,
	} {
		if got := fromText(text); !slices.Equal(got, want) {
			t.Errorf("%s: %v", text, got)
		}
	}
}

const page = `# TYPE topic_messages_in_rate gauge
topic_messages_in_rate{kafka_instance_id="i",kafka_topics="orders"} 1000
topic_messages_in_rate{kafka_instance_id="i",kafka_topics="other"} 7
topic_messages_remained{kafka_instance_id="i",kafka_topics="orders",kafka_groups="billing"} 123
broker_disk_usage{kafka_instance_id="i",kafka_broker="0"} 81.25
# TYPE belfry_guard_deleted_bytes_total counter
belfry_guard_deleted_bytes_total{kafka_instance_id="i",kafka_broker="0"} 5e6
`

func TestSummaryShowsWhatIsKnown(t *testing.T) {
	f, err := readFigures([]byte(page))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := f.summary(), "1000 messages/s in, lag 123 messages, disk 81.2 %"; got != want {
		t.Errorf("summary %q, want %q", got, want)
	}
	if v, ok := f.sum("belfry_guard_deleted_bytes_total"); !ok || v != 5e6 {
		t.Errorf("deleted %g, %v", v, ok)
	}
	if _, ok := f.sum("belfry_guard_rejecting"); ok {
		t.Error("a metric that is absent has a value")
	}
	if _, err := readFigures([]byte("{")); err == nil {
		t.Error("nonsense was read")
	}
}

func TestLineIsShort(t *testing.T) {
	if got := line("a \n b\tc", 10); got != "a b c" {
		t.Errorf("%q", got)
	}
	if got := line(strings.Repeat("ä", 20), 10); got != strings.Repeat("ä", 9)+"…" {
		t.Errorf("%q", got)
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	var said tail
	for range 100 {
		if _, err := said.Write([]byte(strings.Repeat("x", 1000))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := said.Write([]byte("end")); err != nil {
		t.Fatal(err)
	}
	if got := said.String(); len(got) != tailLength || !strings.HasSuffix(got, "xend") {
		t.Errorf("%d bytes, ending in %q", len(got), got[len(got)-4:])
	}
}
