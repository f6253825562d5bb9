package compat

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// readerProperty and printProperty give the names of two options of the console clients.
func (k tools) readerProperty() string {
	if k.since('4') {
		return "--reader-property"
	}
	return "--property"
}

func (k tools) printProperty() string {
	if k.since('4') {
		return "--formatter-property"
	}
	return "--property"
}

// consume reads with the console consumer, which has to end by itself.
func (k tools) consume(args ...string) []string {
	k.t.Helper()
	out := k.run("console-consumer", args...).succeeds(k.t)
	return strings.FieldsFunc(out, func(r rune) bool { return r == '\n' })
}

// printing makes the console consumer print all it knows.
func (k tools) printing(what ...string) []string {
	var args []string
	for _, w := range what {
		args = append(args, k.printProperty(), "print."+w+"=true")
	}
	return args
}

func sameLines(k tools, what string, got, want []string) {
	k.t.Helper()
	got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		k.t.Errorf("%s: %d lines, want %d:\n%s\nwant\n%s", what, len(got), len(want), clip(strings.Join(got, "\n")), clip(strings.Join(want, "\n")))
	}
}

// console sends lines with every codec and reads them back in a group; the node is killed and
// restarted in between. Then what the console clients can do besides.
func (k tools) console() {
	t, topic, group := k.t, k.name("console"), k.name("console-group")
	k.create(topic, 3)
	var all []string
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		var lines []string
		for i := range 20 {
			lines = append(lines, fmt.Sprintf("%s-%d:value %s %d", codec, i, codec, i))
		}
		k.produce(topic, lines, "--compression-codec", codec, k.readerProperty(), "parse.key=true", k.readerProperty(), "key.separator=:")
		all = append(all, lines...)
	}
	if k.node != nil {
		k.node.Kill()
		k.node.Restart()
		k.settled(topic)
	}
	separator := []string{k.printProperty(), "key.separator=:"}
	keyed := append(k.printing("key"), separator...)
	read := append([]string{"--topic", topic, "--group", group, "--from-beginning", "--max-messages", "100", "--timeout-ms", "60000"}, keyed...)
	sameLines(k, "console-consumer", k.consume(read...), all)

	k.produce(topic, []string{"late"})
	again := []string{"--topic", topic, "--group", group, "--max-messages", "1", "--timeout-ms", "60000"}
	sameLines(k, "the group resumes", k.consume(again...), []string{"late"})
	k.consolePartition()
	k.consoleSubscription(topic, append(all, "null:late"), keyed)
	if k.since('3') {
		k.consoleHeaders()
	}
	// An illegal name is refused at once rather than tried until the time is over.
	start := time.Now()
	k.run("console-consumer", "--topic", "bad/topic", "--timeout-ms", "60000", "--max-messages", "1").prints(t, "invalid topics [bad/topic]")
	if took := time.Since(start); took > 45*time.Second {
		t.Errorf("an illegal topic was refused after %v", took)
	}
}

// consolePartition reads parts of one partition.
func (k tools) consolePartition() {
	topic := k.name("console-one")
	k.create(topic, 1)
	k.produce(topic, numbered("n", 10))
	one := []string{"--topic", topic, "--partition", "0", "--timeout-ms", "60000"}
	sameLines(k, "from offset 7", k.consume(append(one, "--offset", "7", "--max-messages", "2")...), []string{"n7", "n8"})
	sameLines(k, "from earliest", k.consume(append(one, "--offset", "earliest", "--max-messages", "1")...), []string{"n0"})
	latest := []string{"--topic", topic, "--partition", "0", "--timeout-ms", "1500", "--offset", "latest"}
	sameLines(k, "from latest", k.consume(latest...), nil)
}

// consoleSubscription reads by a pattern, committed messages only, and looks at the times.
func (k tools) consoleSubscription(topic string, want, keyed []string) {
	pattern := "--include"
	if !k.since('3') {
		pattern = "--whitelist"
	}
	args := []string{pattern, topic[:len(topic)-1] + ".", "--from-beginning", "--isolation-level", "read_committed", "--max-messages", strconv.Itoa(len(want)), "--timeout-ms", "60000"}
	sameLines(k, "by pattern, read_committed", k.consume(append(args, keyed...)...), want)
	stamped := k.consume(append(k.printing("timestamp"), "--topic", topic, "--from-beginning", "--max-messages", "1", "--timeout-ms", "60000")...)
	if len(stamped) != 1 || !regexp.MustCompile(`^CreateTime:1\d{12}\t`).MatchString(stamped[0]) {
		k.t.Errorf("a message with its time is %q", stamped)
	}
}

// consoleHeaders sends headers, keys and tombstones.
func (k tools) consoleHeaders() {
	topic := k.name("console-headers")
	k.create(topic, 1)
	k.produce(topic, []string{"h1:v1,h2:v2\tk1\tone", "h1:x\tk2\ttwo"}, k.readerProperty(), "parse.key=true", k.readerProperty(), "parse.headers=true")
	k.produce(topic, []string{"k1\tNONE"}, k.readerProperty(), "parse.key=true", k.readerProperty(), "null.marker=NONE")
	args := append(k.printing("key", "headers", "partition", "offset"), "--topic", topic, "--from-beginning", "--max-messages", "3", "--timeout-ms", "60000")
	sameLines(k, "headers, keys, tombstones", k.consume(args...), []string{
		"Partition:0\tOffset:0\th1:v1,h2:v2\tk1\tone", "Partition:0\tOffset:1\th1:x\tk2\ttwo", "Partition:0\tOffset:2\tNO_HEADERS\tk1\tnull",
	})
}

// offsetsAt runs kafka-get-offsets.sh; "" = its default, the end.
func (k tools) offsetsAt(topic, at string) map[int]int {
	k.t.Helper()
	args := []string{"--bootstrap-server", k.bootstrap, "--topic", topic}
	if !k.since('3') {
		args[0] = "--broker-list"
	}
	if at != "" {
		args = append(args, "--time", at)
	}
	found := map[int]int{}
	for line := range strings.Lines(k.input("", "get-offsets", args...).succeeds(k.t)) {
		var partition, offset int
		if _, err := fmt.Sscanf(strings.TrimSpace(line), topic+":%d:%d", &partition, &offset); err == nil {
			found[partition] = offset
		}
	}
	return found
}

func (k tools) offsets() {
	t, topic := k.t, k.name("offsets")
	k.create(topic, 2)
	k.produce(topic, numbered("a:", 5), k.readerProperty(), "parse.key=true", k.readerProperty(), "key.separator=:") // one key, one partition
	between := time.Now().UnixMilli() + 1
	for time.Now().UnixMilli() <= between { // the next messages are younger than this
		time.Sleep(time.Millisecond)
	}
	k.produce(topic, numbered("a:", 1), k.readerProperty(), "parse.key=true", k.readerProperty(), "key.separator=:")
	ends := k.offsetsAt(topic, "")
	full, empty := 0, 1
	if ends[1] != 0 {
		full, empty = 1, 0
	}
	check := func(at string, want map[int]int) {
		t.Helper()
		if got := k.offsetsAt(topic, at); !maps.Equal(got, want) {
			t.Errorf("get-offsets --time %s gives %v, want %v", at, got, want)
		}
	}
	check("", map[int]int{full: 6, empty: 0})
	check("-1", map[int]int{full: 6, empty: 0})
	check("-2", map[int]int{0: 0, 1: 0})
	if !k.since('3') {
		return
	}
	check("latest", map[int]int{full: 6, empty: 0})
	check("earliest", map[int]int{0: 0, 1: 0})
	check(strconv.FormatInt(between, 10), map[int]int{full: 5})
	check(strconv.FormatInt(time.Now().Add(time.Hour).UnixMilli(), 10), map[int]int{})
	check("max-timestamp", map[int]int{full: 5})
	check("-3", map[int]int{full: 5})
	check("-4", map[int]int{0: 0, 1: 0}) // earliest local
	check("-5", map[int]int{})           // latest tiered: there is no tiered storage
	if k.since('4') {
		check("-6", map[int]int{}) // earliest pending upload: likewise
	}
	out := k.run("get-offsets", "--topic-partitions", topic+":0-1,nonesuch", "--exclude-internal-topics").succeeds(t)
	contains(t, "get-offsets of a partition", out, topic+":0:")
	lacks(t, "get-offsets of a partition", out, topic+":1:")
	k.run("get-offsets", "--topic", "nonesuch").refused(t, "Could not match any topic-partitions")
}

func (k tools) deleteRecords() {
	t, topic := k.t, k.name("deleted")
	k.create(topic, 1)
	k.produce(topic, numbered("n", 10))
	remove := func(offset int) string {
		file := write(t, fmt.Sprintf(`{"version":1,"partitions":[{"topic":%q,"partition":0,"offset":%d}]}`, topic, offset))
		return k.run("delete-records", "--offset-json-file", file).prints(t)
	}
	contains(t, "delete-records", remove(3), "partition: "+topic+"-0\tlow_watermark: 3")
	if got := k.offsetsAt(topic, "-2"); got[0] != 3 {
		t.Errorf("the partition begins at %v, want 3", got)
	}
	sameLines(k, "what is left", k.consume("--topic", topic, "--from-beginning", "--max-messages", "7", "--timeout-ms", "60000"), numbered("n", 10)[3:])
	contains(t, "delete-records beyond the end", remove(11), "OffsetOutOfRangeException")
	contains(t, "delete-records to the end", remove(-1), "low_watermark: 10")
}

// logDirs is what kafka-log-dirs.sh prints.
type logDirs struct {
	Brokers []struct {
		Broker  int
		LogDirs []struct {
			LogDir     string
			Error      *string
			Partitions []struct {
				Partition string
				Size      int
				OffsetLag int
				IsFuture  bool
			}
		}
	}
}

// describeLogDirs gives where the partitions of a topic lie.
func (k tools) describeLogDirs(topic string) logDirs {
	k.t.Helper()
	out := k.run("log-dirs", "--describe", "--topic-list", topic).succeeds(k.t)
	var answer logDirs
	if err := json.Unmarshal([]byte(out[max(strings.Index(out, "{"), 0):]), &answer); err != nil {
		k.t.Fatalf("log-dirs printed %q: %v", out, err)
	}
	return answer
}

func (k tools) logDirs() {
	t, topic := k.t, k.name("dirs")
	k.create(topic, 2)
	k.produce(topic, numbered("n", 10))
	answer := k.describeLogDirs(topic)
	if len(answer.Brokers) != 1 || len(answer.Brokers[0].LogDirs) != 1 {
		t.Fatalf("log-dirs shows %+v, want one broker with one folder", answer)
	}
	dir := answer.Brokers[0].LogDirs[0]
	size := 0
	for _, p := range dir.Partitions {
		size += p.Size
		if !strings.HasPrefix(p.Partition, topic+"-") || p.OffsetLag != 0 || p.IsFuture {
			t.Errorf("log-dirs shows the partition %+v", p)
		}
	}
	if dir.Error != nil || len(dir.Partitions) != 2 || size == 0 || !filepath.IsAbs(dir.LogDir) {
		t.Errorf("log-dirs shows %+v, want two partitions with some bytes and no error", dir)
	}
	if k.since('3') {
		k.run("log-dirs", "--describe", "--broker-list", "0,9").refused(t, "9")
	}
}

// dumpLog reads what the node has written: it stops the node, as closed segments end where
// their last batch ends.
func (k tools) dumpLog() {
	if k.node == nil {
		return // another server's files are none of ours
	}
	t, topic, group := k.t, k.name("dump"), k.name("dump-group")
	k.create(topic, 1)
	idempotent := "--producer-property"
	if k.since('4') {
		idempotent = "--command-property"
	}
	k.produce(topic, numbered("key:payload ", 300), idempotent, "enable.idempotence=true", "--compression-codec", "zstd", k.readerProperty(), "parse.key=true", k.readerProperty(), "key.separator=:")
	k.consume("--topic", topic, "--group", group, "--from-beginning", "--max-messages", "300", "--timeout-ms", "60000")
	k.node.Stop()
	defer k.node.Restart()
	data := filepath.Join(k.node.Dir, "data")
	all, offsets, indexes := "", "", 0
	for _, log := range globs(k, data, "*.log") {
		files := log
		for _, index := range []string{".index", ".timeindex"} { // a log that holds nothing has none
			path := strings.TrimSuffix(log, ".log") + index
			if _, err := os.Stat(path); err == nil {
				files += "," + path
				indexes++
			}
		}
		out := k.input("", "dump-log", "--files", files, "--print-data-log", "--deep-iteration").succeeds(t)
		if bad := regexp.MustCompile(`isvalid: false|isValid: false|Found timestamp mismatch|Mismatches in|corrupt|Exception`).FindString(out); bad != "" {
			t.Errorf("dump-log of %s: %s\n%s", log, bad, clip(out))
		}
		all += out
		if strings.Contains(out, group) {
			offsets += k.input("", "dump-log", "--files", log, "--offsets-decoder").succeeds(t)
		}
	}
	if indexes == 0 {
		t.Error("no index was there to be checked")
	}
	contains(t, "dump-log", strings.ToLower(all), "payload: payload 299", "key: key", "compresscodec: zstd")
	contains(t, "dump-log --offsets-decoder", offsets, group, topic)
	producers := ""
	for _, snapshot := range globs(k, data, "*.snapshot") {
		c := k.input("", "dump-log", "--files", snapshot)
		producers += c.succeeds(t)
		lacks(t, c.what, c.all(), "Exception")
	}
	contains(t, "dump-log of producer snapshots", producers, "producerEpoch: 0", "lastSequence: 299 lastOffset: 299")
}

// globs gives the files of the partitions.
func globs(k tools, data, pattern string) []string {
	var found []string
	for _, depth := range []string{"*", "*/*"} {
		some, err := filepath.Glob(filepath.Join(data, depth, pattern))
		if err != nil {
			k.t.Fatal(err)
		}
		found = append(found, some...)
	}
	return found
}
