package compat

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// group runs kafka-consumer-groups.sh for one group.
func (k tools) group(name string, args ...string) *call {
	k.t.Helper()
	return k.run("consumer-groups", append([]string{"--group", name}, args...)...)
}

// column reads one column of a table whose lines begin with the group and a topic, by partition.
func column(out, header, group, topic string) map[string]string {
	found, at, partition := map[string]string{}, -1, -1
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) > 3 && f[0] == "GROUP" {
			at, partition = slices.Index(f, header), slices.Index(f, "PARTITION")
		} else if at >= 0 && at < len(f) && partition < len(f) && f[0] == group && f[1] == topic {
			found[f[partition]] = f[at]
		}
	}
	return found
}

// consumerGroups watches a group from its first member to its deletion.
func (k tools) consumerGroups() {
	t, topic, group := k.t, k.name("grouped"), k.name("watched")
	k.create(topic, 2)
	k.produce(topic, numbered("n", 20))
	member := k.run("console-consumer", "--topic", topic, "--group", group, "--from-beginning", "--timeout-ms", "120000")
	for _, line := range numbered("n", 20) {
		member.awaits(t, line+"\n")
	}
	contains(t, "consumer-groups --list", k.run("consumer-groups", "--list").succeeds(t), group+"\n")
	contains(t, "list of stable groups", k.run("consumer-groups", "--list", "--state", "Stable").succeeds(t), group)
	lacks(t, "list of empty groups", k.run("consumer-groups", "--list", "--state", "Empty").succeeds(t), group)
	state := strings.Fields(lastLine(k.group(group, "--describe", "--state", "--verbose").succeeds(t)))
	for _, want := range []string{group, "(" + k.coordinator(group) + ")", "range", "Stable", "1"} {
		if !slices.Contains(state, want) {
			t.Errorf("--state shows %q, want %q among it", state, want)
		}
	}
	out := k.group(group, "--describe", "--members", "--verbose").succeeds(t)
	contains(t, "consumer-groups --members", out, "consumer", "/127.0.0.1", "0,1") // 3.9 leaves the name of the topic out
	lacks(t, "consumer-groups --members", out, "no active members")
	k.group(group, "--reset-offsets", "--topic", topic, "--to-earliest", "--execute").prints(t, "inactive")
	k.group(group, "--delete").prints(t, "could not be deleted", "not empty")
	member.stop(t)

	contains(t, "state without members", k.group(group, "--describe", "--state").succeeds(t), "Empty")
	describe := k.group(group, "--describe").succeeds(t)
	if lag := column(describe, "LAG", group, topic); !maps.Equal(lag, map[string]string{"0": "0", "1": "0"}) {
		t.Errorf("the lag after reading all is %v:\n%s", lag, describe)
	}
	contains(t, "all groups", k.run("consumer-groups", "--describe", "--all-groups", "--state").prints(t), group)
	k.group("nonesuch", "--describe").prints(t, "Error:", "nonesuch")
	k.group(group, "--delete-offsets", "--topic", topic+":0").prints(t, "Request succeed")
	describe = k.group(group, "--describe").succeeds(t)
	if at := column(describe, "CURRENT-OFFSET", group, topic); at["0"] != "" && at["0"] != "-" || at["1"] == "" {
		t.Errorf("after deleting the offset of partition 0 the group has %v:\n%s", at, describe)
	}
	k.group(group, "--delete").prints(t, "was successful")
	lacks(t, "consumer-groups --list", k.run("consumer-groups", "--list").succeeds(t), group)
	k.group(group, "--delete").prints(t, "could not be deleted", "GroupIdNotFound")
}

func lastLine(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return lines[len(lines)-1]
}

// resetOffsets goes through every way to set the offsets of a group.
func (k tools) resetOffsets() {
	t, topic, group := k.t, k.name("reset"), k.name("reset-group")
	k.create(topic, 1)
	k.produce(topic, numbered("n", 10))
	reset := func(want string, args ...string) {
		t.Helper()
		out := k.group(group, append([]string{"--reset-offsets"}, args...)...).succeeds(t)
		row := regexp.MustCompile(group + `\s+` + topic + `\s+0\s+(\d+)`).FindStringSubmatch(out) // 3.9 prints the table on one line
		if got := strings.Join(row[min(1, len(row)):], ""); got != want {
			t.Errorf("%v gives offset %s, want %s:\n%s", args, got, want, out)
		}
	}
	is := func(want string) {
		t.Helper()
		out := k.group(group, "--describe").succeeds(t)
		if got := column(out, "CURRENT-OFFSET", group, topic)["0"]; got != want {
			t.Errorf("the group stands at %s, want %s:\n%s", got, want, out)
		}
	}
	one := []string{"--topic", topic}
	reset("10", append(one, "--to-latest", "--execute")...)
	is("10")
	reset("0", append(one, "--to-earliest", "--dry-run")...)
	is("10")
	reset("0", append(one, "--to-earliest", "--execute")...)
	is("0")
	reset("7", append(one, "--to-offset", "7", "--execute")...)
	reset("5", append(one, "--shift-by", "-2", "--execute")...)
	is("5")
	reset("10", append(one, "--shift-by", "99", "--dry-run")...)
	reset("0", append(one, "--shift-by", "-99", "--dry-run")...)
	reset("5", append(one, "--to-current", "--dry-run")...)
	const form = "2006-01-02T15:04:05.000"
	reset("0", append(one, "--to-datetime", time.Now().UTC().Add(-time.Hour).Format(form), "--dry-run")...)
	reset("10", append(one, "--to-datetime", time.Now().UTC().Add(time.Hour).Format(form), "--dry-run")...)
	reset("0", append(one, "--by-duration", "PT1H", "--dry-run")...)
	reset("10", append(one, "--by-duration", "PT0S", "--dry-run")...)
	reset("3", "--topic", topic+":0", "--to-offset", "3", "--dry-run")
	reset("10", "--all-topics", "--to-latest", "--dry-run")
	plan := k.group(group, "--reset-offsets", "--topic", topic, "--to-current", "--export", "--dry-run").succeeds(t)
	row := fmt.Sprintf("%s,0,5", topic)
	if contains(t, "the exported plan", strings.ReplaceAll(plan, `"`, ""), row); !t.Failed() {
		reset("2", "--from-file", write(t, fmt.Sprintf("%s,0,2\n", topic)), "--execute")
		is("2")
	}
	sameLines(k, "the group reads from there", k.consume("--topic", topic, "--group", group, "--max-messages", "8", "--timeout-ms", "60000"), numbered("n", 10)[2:])
}

// newProtocol does with a group of the new protocol what consumerGroups does with a classic one.
func (k tools) newProtocol() {
	t, topic, group := k.t, k.name("modern"), k.name("modern-group")
	k.create(topic, 2)
	k.produce(topic, numbered("n", 20))
	member := k.run("console-consumer", "--topic", topic, "--group", group, "--from-beginning", "--timeout-ms", "120000", "--command-property", "group.protocol=consumer")
	for _, line := range numbered("n", 20) {
		member.awaits(t, line+"\n")
	}
	contains(t, "list of consumer groups", k.run("consumer-groups", "--list", "--type", "consumer").succeeds(t), group)
	lacks(t, "list of classic groups", k.run("consumer-groups", "--list", "--type", "classic").succeeds(t), group)
	state := strings.Fields(lastLine(k.group(group, "--describe", "--state", "--verbose").succeeds(t)))
	for _, want := range []string{group, "(" + k.coordinator(group) + ")", "uniform", "Stable", "1"} {
		if !slices.Contains(state, want) {
			t.Errorf("--state shows %q, want %q among it", state, want)
		}
	}
	members := k.group(group, "--describe", "--members", "--verbose").succeeds(t)
	contains(t, "consumer-groups --members", members, "/127.0.0.1", topic+":0,1")
	k.group(group, "--delete").prints(t, "could not be deleted", "not empty")
	member.stop(t)
	contains(t, "state without members", k.group(group, "--describe", "--state").succeeds(t), "Empty")
	describe := k.group(group, "--describe").succeeds(t)
	if lag := column(describe, "LAG", group, topic); !maps.Equal(lag, map[string]string{"0": "0", "1": "0"}) {
		t.Errorf("the lag after reading all is %v:\n%s", lag, describe)
	}
	k.group(group, "--reset-offsets", "--topic", topic, "--to-earliest", "--execute").succeeds(t)
	sameLines(k, "the group reads again", k.consume("--topic", topic, "--group", group, "--max-messages", "20", "--timeout-ms", "60000", "--command-property", "group.protocol=consumer"), numbered("n", 20))
	k.group(group, "--delete").prints(t, "was successful")
	lacks(t, "consumer-groups --list", k.run("consumer-groups", "--list").succeeds(t), group)
}

// groups: the list of all kinds of groups.
func (k tools) groups() {
	t, topic, group := k.t, k.name("listed"), k.name("listed-group")
	k.create(topic, 1)
	k.produce(topic, []string{"n"})
	k.consume("--topic", topic, "--group", group, "--from-beginning", "--max-messages", "1", "--timeout-ms", "60000")
	row := func(out string) string {
		for line := range strings.Lines(out) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == group {
				return strings.Join(f[1:], " ")
			}
		}
		return ""
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "Classic consumer"}, {[]string{"--consumer"}, "Classic consumer"}, {[]string{"--group-type", "classic"}, "Classic consumer"},
		{[]string{"--protocol", "consumer"}, "Classic consumer"}, {[]string{"--share"}, ""}, {[]string{"--group-type", "consumer"}, ""}, {[]string{"--streams"}, ""},
	} {
		if got := row(k.run("groups", append([]string{"--list"}, c.args...)...).succeeds(t)); got != c.want {
			t.Errorf("groups --list %v shows %q, want %q", c.args, got, c.want)
		}
	}
}

// shareGroups: there are none; asking for one is refused in words.
func (k tools) shareGroups() {
	lacks(k.t, "share-groups --list", k.run("share-groups", "--list").succeeds(k.t), "Exception")
	k.run("share-groups", "--describe", "--group", "nonesuch").prints(k.t, "Error: Executing share group command failed due to")
}

func (k tools) streamsGroups() {
	lacks(k.t, "streams-groups --list", k.run("streams-groups", "--list").succeeds(k.t), "Exception")
	k.run("streams-groups", "--describe", "--group", "nonesuch").prints(k.t, "Error: Executing streams group command failed due to")
}

// streamsReset sets an application back: its input to the beginning, its internal topics away.
func (k tools) streamsReset() {
	t, topic, app := k.t, k.name("streams-input"), k.name("application")
	store := app + "-store-changelog"
	k.create(topic, 1)
	k.create(store, 1)
	k.produce(topic, numbered("n", 10))
	k.consume("--topic", topic, "--group", app, "--from-beginning", "--max-messages", "10", "--timeout-ms", "60000")
	server := "--bootstrap-server"
	if !k.since('3') {
		server = "--bootstrap-servers"
	}
	args := []string{server, k.bootstrap, "--application-id", app, "--input-topics", topic}
	contains(t, "dry run of the reset", k.input("", "streams-reset", append(args, "--dry-run")...).succeeds(t), "Dry run", topic)
	k.input("", "streams-reset", append(args, "--force")...).succeeds(t)
	if at := column(k.group(app, "--describe").succeeds(t), "CURRENT-OFFSET", app, topic)["0"]; at != "0" {
		t.Errorf("the application stands at %s, want 0", at)
	}
	list := k.run("topics", "--list").succeeds(t)
	contains(t, "topics after the reset", list, topic)
	lacks(t, "topics after the reset", list, store)
}
