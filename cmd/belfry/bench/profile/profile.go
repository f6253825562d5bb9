// Package profile tells where processor time goes: it takes CPU profiles of this process and, over
// HTTP, of another one, and sums them up by what the time is used for.
//
// It knows the functions of our own rooms and of the client by their names only.
package profile

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// Sample is how much processor time was seen in a stack.
type Sample struct {
	Stack []string // names of functions, the running one first
	Time  int64    // ns
}

// Share is a part of all the time, in words.
type Share struct {
	Name string  `json:"name"`
	Part float64 `json:"part"` // of 1
}

// Shares sums up by the first function of each stack, from the running one on, that has a rule.
// The largest come first.
func Shares(all []Sample) []Share {
	var sum int64
	byName := map[string]int64{}
	for _, s := range all {
		sum += s.Time
		byName[use(s.Stack)] += s.Time
	}
	var shares []Share
	for name, t := range byName {
		shares = append(shares, Share{name, float64(t) / float64(sum)})
	}
	slices.SortFunc(shares, func(a, b Share) int {
		if a.Part != b.Part {
			return int(1e6 * (b.Part - a.Part))
		}
		return strings.Compare(a.Name, b.Name)
	})
	return shares
}

func use(stack []string) string {
	for _, f := range stack {
		for _, r := range rules {
			if strings.HasPrefix(f, r.function) {
				return r.use
			}
		}
	}
	return "other"
}

// The fields of a profile that are read here.
// Source: github.com/google/pprof, proto/profile.proto.
const (
	profileSample, profileLocation, profileFunction, profileString = 2, 4, 5, 6
	sampleLocation, sampleValue                                    = 1, 2
	locationID, locationLine, lineFunction                         = 1, 4, 1
	functionID, functionName                                       = 1, 2
)

// Parse reads a CPU profile as runtime/pprof writes it.
//
// Errors: it is not compressed, or cut off, or has other values than counts and nanoseconds.
func Parse(b []byte) ([]Sample, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("cannot read a profile: %w", err)
	}
	if b, err = io.ReadAll(z); err != nil {
		return nil, fmt.Errorf("cannot read a profile: %w", err)
	}
	var p parser
	p.functions, p.locations = map[uint64]uint64{}, map[uint64][]uint64{}
	err = fields(b, func(n protowire.Number, v uint64, part []byte) error {
		switch n {
		case profileString:
			p.texts = append(p.texts, string(part))
		case profileFunction:
			return p.function(part)
		case profileLocation:
			return p.location(part)
		case profileSample:
			p.samples = append(p.samples, part)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read a profile: %w", err)
	}
	return p.all()
}

type parser struct {
	texts     []string
	functions map[uint64]uint64   // name of each, as a number of a text
	locations map[uint64][]uint64 // functions of each, inlined ones first
	samples   [][]byte
}

func (p *parser) function(b []byte) error {
	var id, name uint64
	err := fields(b, func(n protowire.Number, v uint64, _ []byte) error {
		switch n {
		case functionID:
			id = v
		case functionName:
			name = v
		}
		return nil
	})
	p.functions[id] = name
	return err
}

func (p *parser) location(b []byte) error {
	var id uint64
	var in []uint64
	err := fields(b, func(n protowire.Number, v uint64, part []byte) error {
		switch n {
		case locationID:
			id = v
		case locationLine:
			return fields(part, func(n protowire.Number, v uint64, _ []byte) error {
				if n == lineFunction {
					in = append(in, v)
				}
				return nil
			})
		}
		return nil
	})
	p.locations[id] = in
	return err
}

func (p *parser) all() (all []Sample, err error) {
	for _, b := range p.samples {
		var s Sample
		var values []uint64
		err := fields(b, func(n protowire.Number, v uint64, part []byte) error {
			ids, err := numbers(v, part)
			switch n {
			case sampleLocation:
				for _, id := range ids {
					for _, f := range p.locations[id] {
						s.Stack = append(s.Stack, p.text(p.functions[f]))
					}
				}
			case sampleValue:
				values = append(values, ids...)
			default:
				return nil
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("cannot read a profile: %w", err)
		}
		if len(values) != 2 {
			return nil, fmt.Errorf("cannot read a profile: %d values in a sample", len(values))
		}
		s.Time = int64(values[1])
		all = append(all, s)
	}
	return all, nil
}

func (p *parser) text(i uint64) string {
	if i >= uint64(len(p.texts)) {
		return ""
	}
	return p.texts[i]
}

var errCut = errors.New("it is cut off")

// fields calls see for every field: v is a number, part anything longer.
func fields(b []byte, see func(n protowire.Number, v uint64, part []byte) error) error {
	for len(b) > 0 {
		n, kind, size := protowire.ConsumeTag(b)
		if size < 0 {
			return errCut
		}
		b = b[size:]
		var v uint64
		var part []byte
		switch kind {
		case protowire.VarintType:
			v, size = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			part, size = protowire.ConsumeBytes(b)
		default:
			size = protowire.ConsumeFieldValue(n, kind, b)
		}
		if size < 0 {
			return errCut
		}
		b = b[size:]
		if err := see(n, v, part); err != nil {
			return err
		}
	}
	return nil
}

// numbers gives the values of a repeated field: packed, or the one.
func numbers(v uint64, packed []byte) (all []uint64, err error) {
	if packed == nil {
		return []uint64{v}, nil
	}
	for len(packed) > 0 {
		v, size := protowire.ConsumeVarint(packed)
		if size < 0 {
			return nil, errCut
		}
		all, packed = append(all, v), packed[size:]
	}
	return all, nil
}
