package storage

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/belfry-mq/belfry/broker/record"
	"github.com/belfry-mq/belfry/broker/storage/disk"
)

// Names of the checkpoint files.
const (
	recoveryFile = "recovery-point-offset-checkpoint"
	startFile    = "log-start-offset-checkpoint"
	highFile     = "replication-offset-checkpoint"
	cleanerFile  = "cleaner-offset-checkpoint"
	epochFile    = "leader-epoch-checkpoint"
)

// line is one entry of a checkpoint: its key (a folder or an epoch) and an offset.
type line struct {
	key    string
	offset record.Offset
}

// encodeLines gives the text of a checkpoint: version, count, entries, CRC32C of all before.
func encodeLines(lines []line) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "0\n%d\n", len(lines))
	for _, l := range lines {
		b.WriteString(l.key)
		b.WriteByte(' ')
		b.WriteString(strconv.FormatInt(int64(l.offset), 10))
		b.WriteByte('\n')
	}
	return seal(b.Bytes())
}

// seal adds the line with the CRC.
func seal(text []byte) []byte {
	return fmt.Appendf(text, "crc32c %08x\n", crc32.Checksum(text, castagnoli))
}

// unseal checks the CRC in the last line and gives the lines before it.
func unseal(b []byte) ([]string, error) {
	at := bytes.LastIndex(b, []byte("crc32c "))
	if at < 0 || at > 0 && b[at-1] != '\n' {
		return nil, fmt.Errorf("it has no CRC line")
	}
	if !bytes.Equal(seal(bytes.Clone(b[:at])), b) {
		return nil, fmt.Errorf("its CRC is wrong")
	}
	return strings.Split(strings.TrimSuffix(string(b[:at]), "\n"), "\n"), nil
}

// decodeLines reads what encodeLines wrote.
func decodeLines(b []byte) ([]line, error) {
	text, err := unseal(b)
	if err != nil {
		return nil, err
	}
	if len(text) < 2 || text[0] != "0" || text[1] != strconv.Itoa(len(text)-2) {
		return nil, fmt.Errorf("it does not begin with version 0 and the number of its lines")
	}
	var lines []line
	for _, t := range text[2:] {
		key, value, ok := strings.Cut(t, " ")
		n, err := strconv.ParseInt(value, 10, 64)
		if !ok || err != nil || n < 0 {
			return nil, fmt.Errorf("its line %q is not a name and an offset", t)
		}
		lines = append(lines, line{key, record.Offset(n)})
	}
	return lines, nil
}

// readLines reads a checkpoint file, if it is there.
func readLines(d disk.Dir, name string) (lines []line, there bool, err error) {
	b, err := disk.ReadFile(d, name)
	if disk.IsAbsent(err) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	if lines, err = decodeLines(b); err != nil {
		return nil, true, fmt.Errorf("cannot read checkpoint %q: %w", name, errDamaged{err})
	}
	return lines, true, nil
}

// errDamaged marks content that is not what was written, as opposed to a failing disk.
type errDamaged struct{ error }

func (e errDamaged) Unwrap() error { return e.error }

// lines gives the cache as checkpoint entries.
func (c epochs) lines() []line {
	lines := make([]line, len(c))
	for i, e := range c {
		lines[i] = line{strconv.Itoa(int(e.epoch)), e.start}
	}
	return lines
}

// readEpochs makes an epoch cache of checkpoint entries.
func readEpochs(lines []line) (epochs, error) {
	var c epochs
	for _, l := range lines {
		e, err := strconv.ParseInt(l.key, 10, 32)
		if err != nil || e < 0 || len(c) > 0 && (record.Epoch(e) <= c.last() || l.offset <= c[len(c)-1].start) {
			return nil, errDamaged{fmt.Errorf("its epoch %q at offset %d is out of order", l.key, l.offset)}
		}
		c = append(c, epochStart{record.Epoch(e), l.offset})
	}
	return c, nil
}

// checkpoint writes a directory's recovery points, log starts and high watermarks,
// those that changed. A full disk keeps the old ones, unless must takes the reserve.
// Errors: ErrFull, ErrOffline.
func (s *Store) checkpoint(d *directory, must bool) error {
	d.files.Lock()
	defer d.files.Unlock()
	if d.Err() != nil {
		return ErrOffline
	}
	settled := map[*Log]record.Offset{}
	var points, starts, highs, cleaned []line
	for _, l := range s.Logs() {
		m := l.moving.Load() // before dir, so that a move that ends in between is not missed
		if l.dir() != d {
			if at := m.arriving(d); at != nil {
				points = append(points, line{l.folder, at.point})
				starts = append(starts, line{l.folder, at.start})
				highs = append(highs, line{l.folder, at.high})
				if at.compact {
					cleaned = append(cleaned, line{l.folder, at.cleaned})
				}
			}
			continue
		}
		point, start := l.saved()
		points = append(points, line{l.folder, point})
		settled[l] = point
		starts = append(starts, line{l.folder, start})
		highs = append(highs, line{l.folder, l.HighWatermark()})
		if l.conf.Load().Compact {
			cleaned = append(cleaned, line{l.folder, record.Offset(l.cleaned.Load())})
		}
	}
	named := make(map[string]bool, len(points))
	for _, p := range points {
		named[p.key], d.files.named[p.key] = true, true // half-way both are right
	}
	for _, f := range []struct {
		name  string
		lines []line
	}{{recoveryFile, points}, {startFile, starts}, {highFile, highs}, {cleanerFile, cleaned}} {
		slices.SortFunc(f.lines, func(a, b line) int { return strings.Compare(a.key, b.key) })
		if err := d.putFilesLocked(f.name, encodeLines(f.lines), must); err != nil {
			return d.trouble(err)
		}
	}
	d.files.named = named
	for l, point := range settled {
		l.settled.Store(int64(point))
	}
	return nil
}

// putFilesLocked puts a file in place unless it is there with this content.
func (d *directory) putFilesLocked(name string, content []byte, must bool) error {
	if bytes.Equal(d.files.written[name], content) {
		return nil
	}
	write := func() error { return disk.WriteAtomic(d.disk, name, content) }
	var err error
	if must {
		err = d.must(int64(len(content)), write)
	} else {
		err = write()
	}
	if err == nil {
		d.files.written[name] = content
	}
	return err
}

// saved gives the log's recovery point and start for the checkpoints. The epochs below
// the recovery point are on disk before it is.
func (l *Log) saved() (point, start record.Offset) {
	l.mu.Lock()
	point, start = l.recoveryPointLocked(), max(l.Start(), l.mu.newStart)
	old := l.mu.point
	l.mu.Unlock()
	if l.Err() != nil || l.saveEpochs() != nil {
		return old, start
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.epochNews && l.mu.floor == math.MaxInt64 {
		return l.mu.point, start
	}
	l.mu.point = min(point, l.mu.floor)
	return l.mu.point, start
}
