package quorum

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/topic"
)

// three are the first controllers of the script.
var three = []Voter{{1, "n1:1"}, {2, "n2:1"}, {3, "n3:1"}}

// incarnationOf makes one letter an incarnation.
func incarnationOf(letter string) string {
	var id topic.ID
	copy(id[:], strings.Repeat(letter, len(id)))
	return id.String()
}

// scriptFounders turns "abc" into founders; "-" leaves a node out.
func scriptFounders(letters string) string {
	var first []Voter
	incarnations := map[metadata.BrokerID]string{}
	for i, l := range letters {
		if l != '-' {
			first = append(first, three[i])
			incarnations[three[i].Node] = incarnationOf(string(l))
		}
	}
	return foundersText(first, incarnations)
}

// parseStanding reads one line of the script after the node.
func parseStanding(node metadata.BrokerID, words []string) standing {
	s := standing{Node: node, Incarnation: incarnationOf(words[0]), List: listText(three)}
	for i := 1; i+1 < len(words); i += 2 {
		switch value := words[i+1]; words[i] {
		case "promised":
			s.Founders = scriptFounders(value)
		case "formed":
			s.Founders, s.Formed = scriptFounders(value), true
			s.Cluster = clusterOf(s.Founders)
		case "list":
			s.List = value
		case "node":
			n, _ := strconv.Atoi(value)
			s.Node = metadata.BrokerID(n)
		}
	}
	return s
}

func TestJudge(t *testing.T) {
	script, err := os.ReadFile("testdata/form.txt")
	if err != nil {
		t.Fatal(err)
	}
	var self standing
	heard := map[metadata.BrokerID]standing{}
	verdicts := 0
	for n, line := range strings.Split(string(script), "\n") {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || words[0] == "#" || line[0] == '#':
		case words[0] == "self":
			self, heard = parseStanding(1, words[1:]), map[metadata.BrokerID]standing{}
		case words[0] == "=":
			verdicts++
			v, err := judge(self, three, heard)
			want := strings.TrimPrefix(line, "= ")
			what, rest, _ := strings.Cut(want, " ")
			ok := false
			switch what {
			case "wait":
				ok = err == nil && v == verdict{wait: rest}
			case "promise":
				ok = err == nil && v == verdict{promise: scriptFounders(rest)}
			case "form":
				ok = err == nil && v == verdict{form: scriptFounders(rest)}
			case "refuse":
				ok = err != nil && strings.Contains(err.Error(), rest)
			}
			if !ok {
				t.Errorf("line %d: want %q, got %+v, %v", n+1, want, v, err)
			}
		default:
			node, err := strconv.Atoi(words[0])
			if err != nil {
				t.Fatalf("line %d: %v", n+1, err)
			}
			heard[metadata.BrokerID(node)] = parseStanding(metadata.BrokerID(node), words[1:])
		}
	}
	if verdicts < 10 {
		t.Errorf("only %d verdicts in the script", verdicts)
	}
}

func TestClusterIDIsAKafkaID(t *testing.T) {
	seen := map[string]bool{}
	for i := range 500 {
		id := clusterOf(fmt.Sprint("founders ", i))
		if _, err := topic.ParseID(id); err != nil || id[0] == '-' || seen[id] || id != clusterOf(fmt.Sprint("founders ", i)) {
			t.Fatalf("cluster ID %q, %v", id, err)
		}
		seen[id] = true
	}
}

func TestParseVoters(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "1@a:1": "", "3@c:1,1@a:1,2@b:1": "",
		"1@a:1,2@b:1":                          "2 first controllers: want 1, 3 or 5",
		"1@a:1,2@b:1,3@c:1,4@d:1":              "4 first controllers: want 1, 3 or 5",
		"1@a:1,2@b:1,1@c:1":                    "has the node or the address of an entry before it",
		"1@a:1,2@a:1,3@c:1":                    "has the node or the address of an entry before it",
		"1@a":                                  "an entry looks like 1@host:9093",
		"a:1":                                  "an entry looks like 1@host:9093",
		"-1@a:1":                               "an entry looks like 1@host:9093",
		"1@" + strings.Repeat("a", 250) + ":1": "is longer than",
	} {
		var entries []string
		if text != "" {
			entries = strings.Split(text, ",")
		}
		_, err := ParseVoters(entries)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// TestMemberFile: written and read back; damage is noticed wherever it is.
func TestMemberFile(t *testing.T) {
	m := member{node: 7, incarnation: incarnationOf("q"), cluster: "c", founders: scriptFounders("abc")}
	for _, m := range []member{m, {node: 0, incarnation: m.incarnation}} {
		dir := t.TempDir()
		if err := m.write(dir); err != nil {
			t.Fatal(err)
		}
		if got, ok, err := readMember(dir); got != m || !ok || err != nil {
			t.Fatalf("read %+v, %v, %v", got, ok, err)
		}
		good := m.encode()
		for at := range good {
			bad := bytes.Clone(good)
			bad[at] ^= 1
			if got, err := decodeMember(bad); err == nil {
				t.Fatalf("byte %d: read as %+v", at, got)
			}
			if got, err := decodeMember(good[:at]); err == nil {
				t.Fatalf("cut at %d: read as %+v", at, got)
			}
		}
	}
	newer := bytes.Replace(m.encode(), []byte("version 1"), []byte("version 2"), 1)
	if _, err := decodeMember(newer); !errors.Is(err, metadata.ErrUnknown) {
		t.Errorf("a newer version: %v", err)
	}
}

func FuzzDecodeMember(f *testing.F) {
	f.Add(member{node: 7, incarnation: incarnationOf("q"), cluster: "c", founders: scriptFounders("abc")}.encode())
	f.Add([]byte("version 1\ncrc32c 0\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := decodeMember(b); err == nil && !bytes.Equal(m.encode(), b) {
			t.Errorf("%q is read as %+v", b, m)
		}
	})
}

func FuzzParseToken(f *testing.F) {
	token, _ := NewToken("c", []string{"n1:1"}, time.Unix(1e9, 0))
	f.Add(token.Text())
	f.Add(tokenPrefix)
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := ParseToken(text); err == nil && (len(got.Secret) != secretBytes || len(got.Controllers) == 0) {
			t.Errorf("%q is read as %+v", text, got)
		}
	})
}

func FuzzReadGreeting(f *testing.F) {
	var b bytes.Buffer
	b.WriteString(doorMagic)
	if err := writeJSON(&b, greeting{Purpose: forRaft, Cluster: "c", From: "1-x", To: "2-y"}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(doorMagic + "\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var g greeting
		if err := readGreeting(bytes.NewReader(b), &g); err == nil && len(b) < len(doorMagic)+4 {
			t.Errorf("%q is a greeting", b)
		}
	})
}

func TestTokenHidesItsSecret(t *testing.T) {
	token, entry := NewToken("c", []string{"n1:1"}, time.Unix(1e9, 0))
	if text := fmt.Sprint(token, entry); strings.Contains(text, fmt.Sprintf("%x", token.Secret)) || strings.Contains(text, string(token.Secret)) {
		t.Errorf("the secret stands in %q", text)
	}
	if err := admits("other, "+entry, token.Secret, time.Unix(1e9-1, 0)); err != nil {
		t.Errorf("a good token: %v", err)
	}
}

// TestStrangersAtTheDoor: over TCP, whatever comes in is refused or ignored, and the
// node goes on.
func TestStrangersAtTheDoor(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := options(t, t.TempDir())
	o.ClusterID = ""
	at := l.Addr().String()
	o.Network = &Network{Listener: l, Address: at, First: []Voter{{1, at}}}
	q, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Enter(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	n := runOpened(t, q)
	ctx, cancel := contextFor(t)
	defer cancel()
	if err := n.WaitLeading(ctx); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "x", "GET / HTTP/1.1\r\n\r\n", doorMagic, doorMagic + "\xff\xff", doorMagic + "\x00\x02{}", doorMagic + "\x00\x02xx"} {
		c, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if text != "" && len(text) < len(doorMagic)+2 || text == doorMagic+"\xff\xff" {
			c.(*net.TCPConn).CloseWrite()
		}
		if text != "" {
			c.SetReadDeadline(time.Now().Add(long))
			if _, err := c.Read(make([]byte, 1)); err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%q is left waiting", text)
			}
		}
		c.Close()
	}
	self := n.self()
	for what, g := range map[string]greeting{
		"belongs to cluster":           {Purpose: forRaft, Cluster: "other", From: "2-x", To: self},
		"wants member":                 {Purpose: forRaft, Cluster: n.ClusterID(), From: "2-x", To: "1-other"},
		"says that it is node 1, too":  {Purpose: forRaft, Cluster: n.ClusterID(), From: "1-x", To: self},
		"is not known to this version": {Purpose: "tea"},
		"the application is missing":   {Purpose: forJoin},
	} {
		_, err := n.door.ask(at, g, long)
		if refused := new(refusedError); !errors.As(err, &refused) || !strings.Contains(refused.why, what) {
			t.Errorf("want %q: %v", what, err)
		}
	}
	n.propose(created(1)...)
	n.mustStop()
	if _, err := os.Stat(filepath.Join(o.Dir, memberName)); err != nil {
		t.Error(err)
	}
}

// TestHalfEnteredNodeStaysOne: a node that has begun to enter a cluster does not
// become one of its own because a setting was forgotten.
func TestHalfEnteredNodeStaysOne(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCrew(t, 3)
		e := c.enter(c.options(1))
		time.Sleep(time.Second)
		e.stop()
		<-e.done
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		o := c.options(1)
		o.Network.First = nil
		if _, err := Open(o); err == nil || !strings.Contains(err.Error(), "has begun to enter a cluster") {
			t.Errorf("without a list: %v", err)
		}
		if _, err := Open(options(t, c.dirs[1])); err == nil || !strings.Contains(err.Error(), "is a member of a cluster") {
			t.Errorf("without a network: %v", err)
		}
		c.start(1, 2, 3)
		c.propose(1)
		c.stopAll()
	})
}

// TestLoneNodeGrows: a node that was its own cluster gets a controller listener, then
// voters beside it, and its address may change.
func TestLoneNodeGrows(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCrew(t, 1)
		c.dirs[1] = t.TempDir()
		lone := start(t, options(t, c.dirs[1]))
		lone.propose(created(1)...)
		id := lone.Image().ClusterID()
		lone.mustStop()
		c.change = func(o *Options) { o.Network.First = nil }
		c.start(1)
		c.propose(2)
		token := c.token(time.Hour)
		c.change = func(o *Options) { o.Network.First, o.Network.Join = nil, &token }
		for n := metadata.BrokerID(2); n <= 3; n++ {
			c.start(n)
			c.agree()
			if err := c.leader().AddVoter(t.Context(), n, topic.ID{}); err != nil {
				t.Fatal(err)
			}
		}
		if c.nodes[3].Image().Topic("t1") == nil || c.nodes[3].ClusterID() != id {
			t.Errorf("node 3 is of cluster %q, want %q", c.nodes[3].ClusterID(), id)
		}
		c.stop(1)
		if _, err := Open(options(t, c.dirs[1])); err == nil || !strings.Contains(err.Error(), "set controller.listener") {
			t.Errorf("a member without a network: %v", err)
		}
		c.propose(3)
		c.change = func(o *Options) { // it comes back at another address
			o.Network.First = nil
			o.Network.Listener, o.Network.Address, o.Network.Dial = c.fabric.listen("moved:1"), "moved:1", c.fabric.dialer("moved:1")
		}
		delete(c.fabric.mu.doors, c.at(1))
		c.start(1)
		c.agree()
		moved := false
		for range 100 {
			s, _ := c.leader().Status()
			for _, v := range s.Voters {
				moved = moved || v.Node == 1 && v.Address == "moved:1"
			}
			time.Sleep(100 * time.Millisecond)
		}
		if !moved {
			t.Error("the cluster does not know where node 1 is now")
		}
		c.propose(4)
		c.agree()
		c.stopAll()
	})
}
