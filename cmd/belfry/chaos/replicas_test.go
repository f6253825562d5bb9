package chaos

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/belfry-mq/belfry/broker/record"
)

// identical compares, once nobody writes any more, the logs of the nodes byte by byte: all replicas of a partition
// hold the same batches at the same offsets.
func (w *world) identical() {
	w.t.Helper()
	for _, l := range w.ledgers {
		for p := range partitions {
			w.eventually(fmt.Sprintf("replicas of %s-%d are the same", l.Topic, p), func() string { return w.differ(l.Topic, p) })
		}
	}
}

// differ says how the replicas of a partition differ; "" = they do not.
func (w *world) differ(topic string, partition int) string {
	var first []byte
	for id := 1; id <= len(w.Nodes); id++ {
		log, err := logOf(w.node(id).Dir, topic, partition)
		if err != nil {
			return err.Error()
		}
		if id == 1 {
			first = log
			continue
		}
		if !bytes.Equal(first, log) {
			return fmt.Sprintf("nodes 1 and %d: %s", id, difference(first, log))
		}
	}
	return ""
}

// logOf gives a partition's batches, back to back.
func logOf(dir, topic string, partition int) ([]byte, error) {
	_, segments, err := segmentsOf(dir, topic, partition)
	if err != nil {
		return nil, err
	}
	var all []byte
	for _, s := range segments {
		b, err := os.ReadFile(s)
		if err != nil {
			return nil, err
		}
		all = append(all, b...)
	}
	return all, nil
}

// segmentsOf gives a partition's folder and its segment files in order.
func segmentsOf(dir, topic string, partition int) (folder string, segments []string, err error) {
	names, err := filepath.Glob(filepath.Join(dir, "data", "*", "partition.metadata"))
	if err != nil {
		return "", nil, err
	}
	for _, name := range names {
		if strings.Contains(name, ".damaged-") || strings.Contains(name, ".delete-") {
			continue // set aside
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return "", nil, err
		}
		if !strings.Contains(string(b), "topic: "+topic+"\n") || !strings.Contains(string(b), fmt.Sprintf("partition: %d\n", partition)) {
			continue
		}
		segments, err = filepath.Glob(filepath.Join(filepath.Dir(name), "*.log"))
		slices.Sort(segments)
		return filepath.Dir(name), segments, err
	}
	return "", nil, fmt.Errorf("%s has no folder of %s-%d", dir, topic, partition)
}

// difference says where two logs part.
func difference(a, b []byte) string {
	for at := 0; ; {
		left, errA := record.ReadHeader(a[at:])
		right, errB := record.ReadHeader(b[at:])
		switch {
		case errA != nil || errB != nil:
			return fmt.Sprintf("after %d bytes: %d and %d bytes in all: %+v %v and %+v %v", at, len(a), len(b), left, errA, right, errB)
		case left != right:
			return fmt.Sprintf("after %d bytes: %+v and %+v", at, left, right)
		case len(a) < at+left.Size() || len(b) < at+right.Size() || !bytes.Equal(a[at:at+left.Size()], b[at:at+right.Size()]):
			return fmt.Sprintf("after %d bytes: the records of %+v", at, left)
		}
		at += left.Size()
	}
}
