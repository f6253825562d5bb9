package storage

import (
	"slices"

	"github.com/belfry-mq/belfry/broker/record"
)

// epochStart is the first offset of a leader epoch.
type epochStart struct {
	epoch record.Epoch
	start record.Offset
}

// epochs is the epoch cache: strictly ascending in both parts (R1). Pure.
type epochs []epochStart

// last gives the largest epoch, -1 without one.
func (c epochs) last() record.Epoch {
	if len(c) == 0 {
		return -1
	}
	return c[len(c)-1].epoch
}

// begin gives the cache with an epoch that begins at start. An epoch that is not
// above the last one changes nothing; entries at or above start held no record and go.
func (c epochs) begin(e record.Epoch, start record.Offset) epochs {
	if e <= c.last() {
		return c
	}
	n := len(c)
	for n > 0 && c[n-1].start >= start {
		n--
	}
	return append(slices.Clip(c[:n]), epochStart{e, start})
}

// agree gives the cache in line with a batch of epoch e at offset o, which is right
// where they differ: what the cache has from there on is older than the log, or of an
// epoch that has no batches.
func (c epochs) agree(e record.Epoch, o record.Offset) epochs {
	if c.at(o) == e {
		return c
	}
	c = c.cutEnd(o)
	for len(c) > 0 && c.last() > e {
		c = c[:len(c)-1]
	}
	return c.begin(e, o)
}

// cutEnd drops the epochs that begin at or above end.
func (c epochs) cutEnd(end record.Offset) epochs {
	n := len(c)
	for n > 0 && c[n-1].start >= end {
		n--
	}
	return slices.Clip(c[:n])
}

// cutStart drops the epochs that end at or below start; the first one left begins there.
func (c epochs) cutStart(start record.Offset) epochs {
	n := 0
	for n+1 < len(c) && c[n+1].start <= start {
		n++
	}
	c = slices.Clone(c[n:])
	if len(c) > 0 && c[0].start < start {
		c[0].start = start
	}
	return c
}

// endOf gives the largest epoch <= e and where it ends, -1, -1 if e is not known yet.
// For an epoch older than all it gives e itself, ending where the first one begins.
// Source: KIP-101, KIP-279.
func (c epochs) endOf(e record.Epoch, end record.Offset) (record.Epoch, record.Offset) {
	if e < 0 || len(c) == 0 || e > c.last() {
		return -1, -1
	}
	i, found := slices.BinarySearchFunc(c, e, func(s epochStart, e record.Epoch) int { return int(s.epoch) - int(e) })
	if !found {
		i--
	}
	switch {
	case i < 0:
		return e, c[0].start
	case i+1 == len(c):
		return c[i].epoch, end
	}
	return c[i].epoch, c[i+1].start
}

// at gives the epoch of an offset, -1 if it is not known.
func (c epochs) at(o record.Offset) record.Epoch {
	for i := len(c) - 1; i >= 0; i-- {
		if c[i].start <= o {
			return c[i].epoch
		}
	}
	return -1
}
