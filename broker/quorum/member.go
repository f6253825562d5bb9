package quorum

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/hashicorp/raft"

	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/topic"
)

// memberName is the file that says who this node is in its cluster. A node alone has none.
const memberName = "member"

// member is its content. A node whose disk is lost comes back under another
// incarnation and so is another member: it can never vote in the old one's place.
type member struct {
	node        metadata.BrokerID
	incarnation string // 22 characters
	// cluster is the ID of the cluster that this node has promised to form, or has joined; "" before.
	cluster string
	// founders are the members that form the cluster, as text; "" when this node joined it.
	founders string
}

// id is the member's name among the voters: the node and its incarnation.
func (m member) id() raft.ServerID {
	return raft.ServerID(strconv.Itoa(int(m.node)) + "-" + m.incarnation)
}

// directory gives the incarnation as the 16 bytes that Kafka calls a directory ID;
// zero for a member without one.
func directory(id raft.ServerID) topic.ID {
	_, text, _ := strings.Cut(string(id), "-")
	d, err := topic.ParseID(text)
	if err != nil {
		return topic.ID{}
	}
	return d
}

// nodeOf reads the node from a member's name; a node that was alone when it wrote
// its log has a name without an incarnation.
func nodeOf(id raft.ServerID) metadata.BrokerID {
	text, _, _ := strings.Cut(string(id), "-")
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return metadata.NoBroker
	}
	return metadata.BrokerID(n)
}

func serverID(n metadata.BrokerID) raft.ServerID { return raft.ServerID(strconv.Itoa(int(n))) }

// Raft knows a member by its whole address, NAME@HOST:PORT. Why the name in it: who
// dials says whom it wants, so that a node that took the place of another one at the
// same HOST:PORT is never taken for it.
func memberAddress(id raft.ServerID, hostPort string) raft.ServerAddress {
	return raft.ServerAddress(string(id) + "@" + hostPort)
}

// splitAddress undoes memberAddress; hostPort is "" for an address that nobody can dial.
func splitAddress(a raft.ServerAddress) (id raft.ServerID, hostPort string) {
	name, at, ok := strings.Cut(string(a), "@")
	if !ok {
		return "", ""
	}
	return raft.ServerID(name), at
}

// readMember gives the member file; ok is false if there is none.
func readMember(dir string) (m member, ok bool, err error) {
	path := filepath.Join(dir, memberName)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, false, nil
	}
	if err == nil {
		m, err = decodeMember(b)
	}
	if err != nil {
		return m, false, fmt.Errorf("cannot read %q: %w; %s", path, err, remedy)
	}
	return m, true, nil
}

// The member file is text, one "key value" a line, the last one the CRC-32C of those before it.
func (m member) encode() []byte {
	b := fmt.Appendf(nil, "version 1\nnode %d\nincarnation %s\ncluster %s\nfounders %s\n", m.node, m.incarnation, m.cluster, m.founders)
	return fmt.Appendf(b, "crc32c %08x\n", crc32.Checksum(b, castagnoli))
}

func decodeMember(b []byte) (m member, err error) {
	var version int
	var sum uint32
	values := map[string]string{}
	for _, text := range strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") {
		key, value, ok := strings.Cut(text, " ")
		if !ok {
			return m, fmt.Errorf("%w: its line %q is not a key and a value", errDamaged, text)
		}
		values[key] = value
	}
	if _, err := fmt.Sscanf(values["version"]+" "+values["node"]+" "+values["crc32c"], "%d %d %x", &version, &m.node, &sum); err != nil {
		return m, fmt.Errorf("%w: %w", errDamaged, err)
	}
	m.incarnation, m.cluster, m.founders = values["incarnation"], values["cluster"], values["founders"]
	if version != 1 {
		return m, fmt.Errorf("%w: version %d, this program reads 1: use the newer program that wrote it", metadata.ErrUnknown, version)
	}
	if string(m.encode()) != string(b) {
		return m, fmt.Errorf("%w: its CRC does not match", errDamaged)
	}
	if _, err := topic.ParseID(m.incarnation); err != nil {
		return m, fmt.Errorf("%w: incarnation %q: %w", errDamaged, m.incarnation, err)
	}
	return m, nil
}

// write makes the member file durable (R18).
func (m member) write(dir string) error {
	path := filepath.Join(dir, memberName)
	err := writeSynced(path+".tmp", m.encode())
	if err == nil {
		err = os.Rename(path+".tmp", path)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("cannot write down who this node is in %q: %w", path, err)
	}
	return nil
}

func writeSynced(path string, b []byte) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = file.Write(b)
	if err == nil {
		err = file.Sync()
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	return err
}

// maxAddress is the longest HOST:PORT of a member. Why: raft keeps whom it voted for, with
// name and address, in one value of the state file, which holds 255 bytes.
const maxAddress = 200

func checkAddress(hostPort string) error {
	if len(hostPort) > maxAddress {
		return fmt.Errorf("address %q is longer than %d bytes", hostPort, maxAddress)
	}
	return nil
}

// ParseVoters reads the list of the first controllers: id@host:port, …
//
// Errors: which entry is wrong and what it should look like; an even number of them.
func ParseVoters(entries []string) ([]Voter, error) {
	var out []Voter
	nodes, places := map[metadata.BrokerID]bool{}, map[string]bool{}
	for _, e := range entries {
		id, at, ok := strings.Cut(e, "@")
		n, err := strconv.ParseInt(id, 10, 32)
		if _, port, splitErr := net.SplitHostPort(at); !ok || err != nil || n < 0 || splitErr != nil || port == "" {
			return nil, fmt.Errorf("%q is not a controller; an entry looks like 1@host:9093", e)
		}
		if err := checkAddress(at); err != nil {
			return nil, err
		}
		v := Voter{Node: metadata.BrokerID(n), Address: at}
		if nodes[v.Node] || places[at] {
			return nil, fmt.Errorf("%q has the node or the address of an entry before it", e)
		}
		nodes[v.Node], places[at] = true, true
		out = append(out, v)
	}
	switch len(out) {
	case 0, 1, 3, 5:
		return out, nil
	}
	return nil, fmt.Errorf("%d first controllers: want 1, 3 or 5 (an even number survives no more failures than one less)", len(out))
}
