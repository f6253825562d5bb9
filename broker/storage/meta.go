package storage

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/belfry-mq/belfry/broker/storage/disk"
	"github.com/belfry-mq/belfry/broker/topic"
)

// metaFile says whose a log directory is (R23).
const metaFile = "meta.properties"

// meta is its content.
type meta struct {
	cluster   string
	node      int32
	directory topic.ID
}

func (m meta) encode() []byte {
	return fmt.Appendf(nil, "version=1\ncluster.id=%s\nnode.id=%d\ndirectory.id=%s\n", m.cluster, m.node, m.directory)
}

// decodeMeta reads meta.properties, Kafka's version 1.
func decodeMeta(b []byte) (meta, error) {
	m := meta{node: -1}
	seen := map[string]bool{}
	for _, text := range strings.Split(string(b), "\n") {
		text = strings.TrimSpace(text)
		if text == "" || text[0] == '#' {
			continue
		}
		key, value, ok := strings.Cut(text, "=")
		if !ok {
			return m, fmt.Errorf("its line %q is not key=value", text)
		}
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		seen[key] = true
		var err error
		switch key {
		case "version":
			if value != "1" {
				err = fmt.Errorf("its version is %s, not 1", value)
			}
		case "cluster.id":
			m.cluster = value
		case "node.id":
			var n int64
			n, err = strconv.ParseInt(value, 10, 32)
			m.node = int32(n)
		case "directory.id":
			m.directory, err = topic.ParseID(value)
		}
		if err != nil {
			return m, err
		}
	}
	for _, key := range []string{"version", "cluster.id", "node.id", "directory.id"} {
		if !seen[key] {
			return m, fmt.Errorf("it has no %s", key)
		}
	}
	return m, nil
}

// readMeta gives a directory's meta.properties; ok is false if there is none.
func readMeta(d disk.Dir) (m meta, ok bool, err error) {
	b, err := disk.ReadFile(d, metaFile)
	if disk.IsAbsent(err) {
		return m, false, nil
	}
	if err != nil {
		return m, false, err
	}
	if m, err = decodeMeta(b); err != nil {
		err = errDamaged{err}
	}
	return m, true, err
}

// partitionFile says which partition a log's folder holds.
const partitionFile = "partition.metadata"

func encodePartition(p topic.Partition, id topic.ID) []byte {
	return seal(fmt.Appendf(nil, "version: 0\ntopic_id: %s\ntopic: %s\npartition: %d\n", id, p.Topic, p.Partition))
}

func decodePartition(b []byte) (p topic.Partition, id topic.ID, err error) {
	text, err := unseal(b)
	if err != nil {
		return p, id, err
	}
	want := []string{"version", "topic_id", "topic", "partition"}
	if len(text) != len(want) {
		return p, id, fmt.Errorf("it has %d lines, not %d", len(text), len(want))
	}
	for i, key := range want {
		k, value, ok := strings.Cut(text[i], ": ")
		if !ok || k != key {
			return p, id, fmt.Errorf("its line %d is not %q", i+1, key)
		}
		switch key {
		case "version":
			if value != "0" {
				err = fmt.Errorf("its version is %s, not 0", value)
			}
		case "topic_id":
			id, err = topic.ParseID(value)
		case "topic":
			p.Topic, err = value, topic.CheckName(value)
		case "partition":
			var n int64
			n, err = strconv.ParseInt(value, 10, 32)
			p.Partition = int32(n)
		}
		if err != nil {
			return p, id, err
		}
	}
	return p, id, nil
}

// folderName names a partition's folder: by ID, never by name (D4).
func folderName(id topic.ID, partition int32) string {
	return id.String() + "-" + strconv.Itoa(int(partition))
}
