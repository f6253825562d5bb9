package compat

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/cmd/belfry/nodetest"
)

// suiteLimit is the longest that a client project's own test suite may take.
const suiteLimit = 40 * time.Minute

// suiteSetupLimit is the longest that fetching and building one may take.
const suiteSetupLimit = 30 * time.Minute

// suite is one client project's own tests, as the file suites/NAME/suite describes them.
type suite struct {
	name     string
	title    string            // as the page shows it, with its version
	listen   string            // HOST:PORT that its tests take for granted; "" = any free port
	settings map[string]string // of the node
	three    map[string]string // of a node of three, over these; {id} stands for its ID
}

// told gives the node's settings as the page shows them, without its addresses.
func (s suite) told() string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(s.settings)) {
		if !strings.HasSuffix(name, "listeners") {
			all = append(all, name+"="+s.settings[name])
		}
	}
	return strings.Join(all, ", ")
}

// verdict is what became of one case of a suite: ok, fail or skip, and why.
type verdict struct {
	name, is, why string
}

// readSuite reads a description: lines of a word and its values, parted by tabs.
func readSuite(name, text string) (suite, error) {
	s := suite{name: name, settings: map[string]string{}, three: map[string]string{}}
	for _, f := range tabbed(text) {
		switch {
		case f[0] == "title" && len(f) == 2:
			s.title = f[1]
		case f[0] == "listen" && len(f) == 2:
			s.listen = f[1]
		case f[0] == "set" && len(f) == 3:
			s.settings[f[1]] = f[2]
		case f[0] == "set3" && len(f) == 3:
			s.three[f[1]] = f[2]
		default:
			return s, fmt.Errorf("cannot read the line %q: want title TEXT, listen HOST:PORT, set NAME VALUE or set3 NAME VALUE, parted by tabs", strings.Join(f, "\t"))
		}
	}
	if s.title == "" {
		return s, fmt.Errorf("cannot read suite %q: it has no title", name)
	}
	return s, nil
}

// readVerdicts reads lines of CASE, one of the allowed words, and WHY.
func readVerdicts(text string, allowed ...string) ([]verdict, error) {
	var all []verdict
	seen := map[string]bool{}
	for _, f := range tabbed(text) {
		if len(f) < 2 || len(f) > 3 || !slices.Contains(allowed, f[1]) {
			return nil, fmt.Errorf("cannot read the line %q: want CASE, %s, and WHY, parted by tabs", strings.Join(f, "\t"), strings.Join(allowed, " or "))
		}
		v := verdict{name: f[0], is: f[1]}
		if len(f) == 3 {
			v.why = strings.TrimSpace(f[2])
		}
		if seen[v.name] {
			return nil, fmt.Errorf("cannot read the line %q: the case was there before", strings.Join(f, "\t"))
		}
		seen[v.name] = true
		all = append(all, v)
	}
	return all, nil
}

// tabbed parts a text into lines and fields; empty lines and those with # are comments.
func tabbed(text string) [][]string {
	var all [][]string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		all = append(all, strings.Split(line, "\t"))
	}
	return all
}

// expect finds the entry for a case: its own, or one whose name ends with * and begins the case's.
func expect(expected []verdict, name string) (int, bool) {
	for i, e := range expected {
		if head, open := strings.CutSuffix(e.name, "*"); e.name == name || open && strings.HasPrefix(name, head) {
			return i, true
		}
	}
	return 0, false
}

// judgeSuite compares what a suite gave with what is expected of it. It gives what the page
// shows – the reason of a case that does not pass is the list's – and what is wrong.
func judgeSuite(found, expected []verdict) (shown []verdict, wrong []string) {
	met := make([]bool, len(expected))
	for _, v := range found {
		i, listed := expect(expected, v.name)
		switch {
		case v.is == "ok" && listed:
			wrong = append(wrong, v.name+": passes, but the list of what is expected says "+expected[i].is)
		case v.is != "ok" && !listed:
			wrong = append(wrong, v.name+": "+v.is+": "+v.why)
		case v.is != "ok" && expected[i].is != v.is:
			wrong = append(wrong, v.name+": "+v.is+" ("+v.why+"), but the list of what is expected says "+expected[i].is)
		}
		if listed {
			met[i] = true
			if v.is != "ok" {
				v.why = expected[i].why
			}
		}
		shown = append(shown, v)
	}
	for i, e := range expected {
		if !met[i] {
			wrong = append(wrong, e.name+": is on the list of what is expected, but the suite has no such case")
		}
		if e.why == "" {
			wrong = append(wrong, e.name+": is on the list of what is expected without a reason")
		}
	}
	if len(found) == 0 {
		wrong = append(wrong, "the suite ran no case")
	}
	return shown, wrong
}

// TestSuites runs the client projects' own tests against a node each; the long form only, as they take
// their time. What came out is kept for the page.
func TestSuites(t *testing.T) { trySuites(t, 1, "expected") }

// TestSuitesOnThreeBrokers runs those that have a list of what is expected then against three brokers each.
func TestSuitesOnThreeBrokers(t *testing.T) { trySuites(t, 3, "expected3") }

func trySuites(t *testing.T, brokers int, list string) {
	if !long() {
		return // Why no skip: the short form has nothing to say about these.
	}
	cache, err := filepath.Abs(cacheRoot(t))
	if err != nil {
		t.Fatal(err)
	}
	folders, err := filepath.Glob(filepath.Join("suites", "*", list))
	if err != nil || len(folders) == 0 {
		t.Fatalf("no suites found: %v", err)
	}
	for _, path := range folders {
		name := filepath.Base(filepath.Dir(path))
		t.Run(name, func(t *testing.T) { trySuite(t, cache, name, brokers, list) })
	}
	writePart(t, "suites", assembleSuites(t))
}

// trySuite installs and runs one suite.
func trySuite(t *testing.T, cache, name string, brokers int, list string) {
	t.Helper()
	folder := filepath.Join("suites", name)
	s, err := readSuite(name, read(t, filepath.Join(folder, "suite")))
	if err != nil {
		t.Fatal(err)
	}
	expected, err := readVerdicts(read(t, filepath.Join(folder, list)), "fail", "skip")
	if err != nil {
		t.Fatal(err)
	}
	if _, errOut, err := command(t, suiteSetupLimit, filepath.Join(folder, "setup"), cache); err != nil {
		t.Fatalf("cannot install %s: %v\n%s", s.title, err, clip(errOut))
	}
	nodes := s.start(t, brokers)
	address := seeds(nodes)
	if s.listen != "" {
		address = s.listen
	}
	out, errOut, err := commandWith(t, []string{"BELFRY_REPLICAS=" + strconv.Itoa(brokers)}, suiteLimit, filepath.Join(folder, "run"), cache, address)
	if err != nil {
		t.Errorf("the suite's runner ended with %v\n%s", err, clip(errOut))
	}
	found, err := readVerdicts(out, "ok", "fail", "skip")
	if err != nil {
		t.Fatal(err)
	}
	shown, wrong := judgeSuite(found, expected)
	for _, w := range wrong {
		t.Error(w)
	}
	instance{nodes: nodes, output: &complaints{}}.stop(t)
	var b strings.Builder
	title := s.title
	if brokers > 1 {
		title += ", three brokers"
		name += "-3"
	}
	fmt.Fprintf(&b, "title\t%s\ndate\t%s\nsettings\t%s\n", title, time.Now().UTC().Format(time.DateOnly), s.told())
	for _, v := range shown {
		fmt.Fprintf(&b, "%s\t%s\t%s\n", v.name, v.is, v.why)
	}
	kept := filepath.Join("page", "suites")
	if err := os.MkdirAll(kept, 0o755); err != nil {
		t.Fatal(err)
	}
	save(t, filepath.Join(kept, name+".tsv"), b.String())
}

// start runs the node of a suite, or as many as it is to have.
func (s suite) start(t *testing.T, brokers int) []*nodetest.Node {
	t.Helper()
	if brokers > 1 {
		maps.Copy(s.settings, replicated())
		maps.Copy(s.settings, s.three)
	}
	each := func(id int) nodetest.Options {
		settings := map[string]string{}
		for name, value := range s.settings {
			settings[name] = strings.ReplaceAll(value, "{id}", strconv.Itoa(id))
		}
		if id == 1 && s.listen != "" {
			settings["listeners"] = "PLAINTEXT://" + s.listen
		}
		return nodetest.Options{Settings: settings}
	}
	if brokers == 1 {
		return []*nodetest.Node{nodetest.Start(t, each(1))}
	}
	cluster := nodetest.Form(t, brokers, each)
	cluster.Start()
	return cluster.Nodes
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// kept is what the last run of a suite gave.
type kept struct {
	title, date string
	settings    string // of the node
	hand        string // why it was run by hand; "" = make compat runs it
	cases       []verdict
}

// readKept reads a file of the folder page/suites: title, date and perhaps "by hand" with its reason, then the cases.
func readKept(text string) (kept, error) {
	var k kept
	for {
		line, rest, _ := strings.Cut(text, "\n")
		name, value, _ := strings.Cut(line, "\t")
		switch name {
		case "title":
			k.title = value
		case "date":
			k.date = value
		case "settings":
			k.settings = value
		case "by hand":
			k.hand = value
		default:
			var err error
			k.cases, err = readVerdicts(text, "ok", "fail", "skip")
			if err == nil && (k.title == "" || k.date == "") {
				err = errors.New("cannot read kept results: no title or no date")
			}
			return k, err
		}
		text = rest
	}
}

// assembleSuites writes the section of the page from what the runs kept; nothing before the first run.
func assembleSuites(t *testing.T) string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("page", "suites", "*.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	var all []kept
	for _, path := range paths {
		k, err := readKept(read(t, path))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all = append(all, k)
	}
	if len(all) == 0 {
		return ""
	}
	return suiteSection(all)
}

// suiteSection draws the table of suites and, for each, what does not pass and why.
func suiteSection(all []kept) string {
	var b strings.Builder
	b.WriteString("## The client projects' own tests\n\nTheir suites against one node, and some against three, without access control, unchanged but for its address, and against one node for the number of replicas where they ask for three. A case that fails here and not against Apache Kafka 4.3.1 is a bug, unless it needs what is not built yet; the lists below say which.\n\n| suite | passed | failed | skipped | run on |\n| --- | --- | --- | --- | --- |\n")
	for _, k := range all {
		count := map[string]int{}
		for _, v := range k.cases {
			count[v.is]++
		}
		date := k.date
		if k.hand != "" {
			date += ", by hand"
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %s |\n", k.title, count["ok"], count["fail"], count["skip"], date)
	}
	for _, k := range all {
		fmt.Fprintf(&b, "\n### %s\n\n", k.title)
		if k.hand != "" {
			fmt.Fprintf(&b, "Run by hand: %s\n\n", k.hand)
		}
		if k.settings != "" {
			fmt.Fprintf(&b, "Settings of the node, as the project's own set-up gives them to Apache Kafka: %s.\n\n", k.settings)
		}
		for _, is := range []string{"fail", "skip"} {
			b.WriteString(reasons(k.cases, is))
		}
		fmt.Fprintf(&b, "<details><summary>Passed</summary>\n\n%s\n\n</details>\n", strings.Join(names(k.cases, "ok", ""), ", "))
	}
	return b.String()
}

// reasons lists the cases of one kind by their reason, in the order of the suite.
func reasons(cases []verdict, is string) string {
	var b strings.Builder
	var told []string
	for _, v := range cases {
		if v.is != is || slices.Contains(told, v.why) {
			continue
		}
		told = append(told, v.why)
		fmt.Fprintf(&b, "- %s: %s: %s\n", map[string]string{"fail": "Failed", "skip": "Skipped"}[is], v.why, strings.Join(names(cases, is, v.why), ", "))
	}
	if len(told) > 0 {
		b.WriteString("\n")
	}
	return b.String()
}

func names(cases []verdict, is, why string) []string {
	var all []string
	for _, v := range cases {
		if v.is == is && (v.why == why || is == "ok") {
			all = append(all, "`"+v.name+"`")
		}
	}
	return all
}

func TestJudgeSuite(t *testing.T) {
	expected, err := readVerdicts("# why\nTxn*\tfail\ttransactions\nold\tfail\tgone\nsometimes\tskip\tneeds two brokers\nblank\tfail\n", "fail", "skip")
	if err != nil {
		t.Fatal(err)
	}
	found, err := readVerdicts("good\tok\nTxnA\tfail\tx.c:1\nTxnB\tok\nsometimes\tfail\tboom\nnew\tskip\tjust so\n", "ok", "fail", "skip")
	if err != nil {
		t.Fatal(err)
	}
	shown, wrong := judgeSuite(found, expected)
	if got, want := fmt.Sprint(shown), "[{good ok } {TxnA fail transactions} {TxnB ok } {sometimes fail needs two brokers} {new skip just so}]"; got != want {
		t.Errorf("shown %s, want %s", got, want)
	}
	want := []string{
		"TxnB: passes, but the list of what is expected says fail",
		"sometimes: fail (boom), but the list of what is expected says skip",
		"new: skip: just so",
		"old: is on the list of what is expected, but the suite has no such case",
		"blank: is on the list of what is expected, but the suite has no such case",
		"blank: is on the list of what is expected without a reason",
	}
	if !slices.Equal(wrong, want) {
		t.Errorf("wrong:\n%s\nwant:\n%s", strings.Join(wrong, "\n"), strings.Join(want, "\n"))
	}
	if _, wrong := judgeSuite(nil, nil); len(wrong) != 1 {
		t.Errorf("a suite without a case: %v", wrong)
	}
}

func TestSuiteFiles(t *testing.T) {
	for _, text := range []string{"a\tmaybe\n", "a\n", "a\tok\na\tok\n", "a\tok\tb\tc\n"} {
		if _, err := readVerdicts(text, "ok"); err == nil {
			t.Errorf("%q was read as verdicts", text)
		}
	}
	for _, text := range []string{"", "title\n", "title\tA\nset\tx\n", "port\t1\n"} {
		if _, err := readSuite("a", text); err == nil {
			t.Errorf("%q was read as a suite", text)
		}
	}
	k, err := readKept("title\tA 1\ndate\t2026-01-02\nsettings\tnum.partitions=2\nby hand\tno package\none\tok\ntwo\tfail\tso\nthree\tfail\tso\nfour\tskip\tTLS\n")
	if err != nil {
		t.Fatal(err)
	}
	got := suiteSection([]kept{k})
	for _, want := range []string{"| A 1 | 1 | 2 | 1 | 2026-01-02, by hand |", "- Failed: so: `two`, `three`\n\n- Skipped: TLS: `four`\n", "Run by hand: no package", "gives them to Apache Kafka: num.partitions=2.\n", "Passed</summary>\n\n`one`\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

// TestSuiteLists: what stands beside each suite can be read, and the section is what the kept results say.
func TestSuiteLists(t *testing.T) {
	folders, err := filepath.Glob(filepath.Join("suites", "*", "suite"))
	if err != nil || len(folders) == 0 {
		t.Fatalf("no suites found: %v", err)
	}
	for _, path := range folders {
		folder := filepath.Dir(path)
		if _, err := readSuite(filepath.Base(folder), read(t, path)); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		lists, err := filepath.Glob(filepath.Join(folder, "expected*"))
		if err != nil || len(lists) == 0 {
			t.Errorf("%s: no list of what is expected: %v", folder, err)
		}
		for _, list := range lists {
			if _, err := readVerdicts(read(t, list), "fail", "skip"); err != nil {
				t.Errorf("%s: %v", list, err)
			}
		}
	}
	kept, err := os.ReadFile(filepath.Join("page", "suites.md"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if want := assembleSuites(t); string(kept) != want {
		if long() {
			writePart(t, "suites", want)
			return
		}
		t.Error("page/suites.md is not what page/suites says; write it with BELFRY_LONG=1 go test -run 'TestSuiteLists|TestPage' ./cmd/belfry/compat")
	}
}
