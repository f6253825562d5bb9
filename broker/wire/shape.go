package wire

import (
	_ "embed"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Why requests are walked before they are decoded: kmsg loops over a claimed number of
// tags even when no bytes are left (seven bytes keep it busy for minutes), and allocates
// for every claimed array element before it reads one. The walk costs no memory, reads
// each byte once, and tells what the decoder is going to allocate.

//go:embed shapes.txt
var shapesText string

// Costs in bytes of what kmsg allocates beside its structs.
const (
	tagCost    = 160 // one entry of a map of unknown tags, growth included
	tagMapCost = 340 // such a map with room for its first entries
)

var (
	errShort   = errors.New("request ends early")
	errLength  = errors.New("impossible length")
	errTags    = errors.New("tags are not in ascending order")
	errTagSize = errors.New("tag is longer than its field")
)

// maxShapeDepth bounds the recursion of a walk.
const maxShapeDepth = 8

// shape is the form of one request.
type shape struct {
	name     string
	max      int16
	flexible int16 // first version with compact lengths and tags; MaxInt16: none
	body     structure
}

// structure is a sequence of fields, and the size of the Go struct that kmsg makes of it.
type structure struct {
	size   int64
	fields []field
	tags   []field // known tags, by number
}

type kind uint8

const (
	kindFixed  kind = iota // width bytes
	kindString             // length and bytes, copied
	kindBytes              // length and bytes, not copied
	kindArray              // count and elements
	kindStruct             // fields
	kindMaybe              // a byte that says whether fields follow

)

type field struct {
	name        string
	kind        kind
	width       int   // kindFixed: bytes on the wire
	cost        int64 // kindString: bytes allocated beside the copy; kindArray: bytes of an element in memory
	first, last int16 // versions; for a tag the number is its place in structure.tags
	elem        *field
	sub         *structure
}

// newShapes reads shapes.txt. It panics when that file is at odds with kmsg: both are part of the program.
func newShapes() map[int16]*shape {
	lines := strings.Split(shapesText, "\n")
	shapes := make(map[int16]*shape)
	for i := 0; i < len(lines); {
		if lines[i] == "" || lines[i][0] == '#' {
			i++
			continue
		}
		key, s, req := parseShape(lines[i])
		i++
		n := 0
		for i+n < len(lines) && strings.HasPrefix(lines[i+n], "\t") {
			n++
		}
		s.body = parseStruct(s.name, lines[i:i+n], 1, reflect.TypeOf(req).Elem())
		shapes[key] = s
		i += n
	}
	return shapes
}

func parseShape(line string) (int16, *shape, kmsg.Request) {
	words := strings.Fields(line)
	key, err := strconv.ParseInt(words[0], 10, 16)
	if err != nil || len(words) < 4 {
		panic(fmt.Sprintf("BUG: malformed shape %q", line))
	}
	s := &shape{name: words[1], flexible: math.MaxInt16}
	_, s.max = parseVersions(words[2])
	if words[3] == "flexible" {
		s.flexible, _ = parseVersions(words[4])
	}
	req := kmsg.RequestForKey(int16(key))
	if req == nil {
		panic(fmt.Sprintf("BUG: no request with key %d", key))
	}
	return int16(key), s, req
}

// parseVersions reads "3", "3+" and "3-5".
func parseVersions(s string) (first, last int16) {
	num := func(s string) int16 {
		n, err := strconv.ParseInt(s, 10, 16)
		if err != nil {
			panic(fmt.Sprintf("BUG: malformed versions %q", s))
		}
		return int16(n)
	}
	if from, ok := strings.CutSuffix(s, "+"); ok {
		return num(from), math.MaxInt16
	}
	from, to, ok := strings.Cut(s, "-")
	if !ok {
		to = from
	}
	return num(from), num(to)
}

func parseStruct(where string, lines []string, depth int, t reflect.Type) structure {
	if depth > maxShapeDepth {
		panic("BUG: shape too deep: " + where)
	}
	s := structure{size: int64(t.Size())}
	for i := 0; i < len(lines); {
		words := strings.Fields(lines[i])
		i++
		n := 0
		for i+n < len(lines) && strings.HasPrefix(lines[i+n], strings.Repeat("\t", depth+1)) {
			n++
		}
		sf, ok := t.FieldByName(words[0])
		if !ok {
			panic(fmt.Sprintf("BUG: %s has no field %s", where, words[0]))
		}
		f := parseField(where+"."+words[0], lines[i:i+n], depth, sf.Type)
		f.last = math.MaxInt16
		i += n
		if len(words) > 1 {
			if tag, ok := strings.CutPrefix(words[1], "tag"); ok {
				if tag != strconv.Itoa(len(s.tags)) {
					panic(fmt.Sprintf("BUG: %s: tags must count up from 0", f.name))
				}
				s.tags = append(s.tags, f)
				continue
			}
			f.first, f.last = parseVersions(words[1])
		}
		s.fields = append(s.fields, f)
	}
	return s
}

func parseField(name string, below []string, depth int, t reflect.Type) field {
	f := field{name: name}
	switch t.Kind() {
	case reflect.Bool, reflect.Int8, reflect.Uint8, reflect.Int16, reflect.Uint16, reflect.Int32, reflect.Uint32, reflect.Int64, reflect.Float64:
		f.kind, f.width = kindFixed, int(t.Size())
	case reflect.Array: // UUID
		f.kind, f.width = kindFixed, t.Len()
	case reflect.String:
		f.kind = kindString
	case reflect.Pointer:
		if t.Elem().Kind() == reflect.String {
			f.kind, f.cost = kindString, int64(t.Elem().Size())
			break
		}
		sub := parseStruct(name, below, depth+1, t.Elem())
		f.kind, f.sub = kindMaybe, &sub
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			f.kind = kindBytes
			break
		}
		elem := parseField(name+"[]", below, depth, t.Elem())
		f.kind, f.cost, f.elem = kindArray, int64(t.Elem().Size()), &elem
	case reflect.Struct:
		sub := parseStruct(name, below, depth+1, t)
		f.kind, f.sub = kindStruct, &sub
	default:
		panic(fmt.Sprintf("BUG: %s is a %s", name, t))
	}
	if f.sub != nil && len(f.sub.fields) == 0 {
		panic("BUG: shape says nothing of what is in " + name)
	}
	return f
}

// walk reads the body of a request of this shape and gives the bytes that kmsg will allocate for it.
// What follows the last field is not looked at, as Kafka does not.
func (s *shape) walk(body []byte, version int16) (cost int64, rest []byte, err error) {
	w := walker{b: body, version: version, flexible: version >= s.flexible, cost: s.body.size}
	w.structure(&s.body)
	if w.err != nil {
		return w.cost, nil, fmt.Errorf("cannot read request %s version %d at byte %d: %w", s.name, version, len(body)-len(w.b), w.err)
	}
	return w.cost, w.b, nil
}

// walker goes over one request; after the first error it stands still.
type walker struct {
	b        []byte
	version  int16
	flexible bool
	cost     int64
	err      error
}

func (w *walker) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

func (w *walker) skip(n int) {
	if n > len(w.b) {
		w.fail(errShort)
		return
	}
	w.b = w.b[n:]
}

// uvarint reads a number of at most 32 bits.
func (w *walker) uvarint() uint32 {
	if len(w.b) > 0 && w.b[0] < 0x80 {
		v := uint32(w.b[0])
		w.b = w.b[1:]
		return v
	}
	var v uint32
	for i := 0; i < len(w.b) && i < 5; i++ {
		c := w.b[i]
		if i == 4 && c > 0x0f {
			break
		}
		v |= uint32(c&0x7f) << (7 * i)
		if c < 0x80 {
			w.b = w.b[i+1:]
			return v
		}
	}
	w.fail(errLength)
	return 0
}

// length reads the length of something that takes at least one byte an element; null is 0.
func (w *walker) length(width int) int { return max(w.nullableLength(width), 0) }

// nullableLength is length that gives -1 for null.
func (w *walker) nullableLength(width int) int {
	var n int64
	switch {
	case w.flexible:
		n = int64(w.uvarint()) - 1
	case len(w.b) < width:
		w.fail(errShort)
		return 0
	case width == 2:
		n = int64(int16(be.Uint16(w.b)))
		w.b = w.b[2:]
	default:
		n = int64(int32(be.Uint32(w.b)))
		w.b = w.b[4:]
	}
	if n < -1 || n > int64(len(w.b)) {
		w.fail(errLength)
		return 0
	}
	return int(n)
}

func (w *walker) structure(s *structure) {
	for i := range s.fields {
		f := &s.fields[i]
		if w.version < f.first || w.version > f.last {
			continue
		}
		w.field(f)
		if w.err != nil {
			return
		}
	}
	if w.flexible {
		w.tags(s)
	}
}

func (w *walker) field(f *field) {
	switch f.kind {
	case kindFixed:
		w.skip(f.width)
	case kindString:
		n := w.length(2)
		w.cost += f.cost + int64(n)
		w.skip(n)
	case kindBytes:
		w.skip(w.length(4))
	case kindArray:
		n := w.length(4)
		w.cost += int64(n) * f.cost
		for ; n > 0 && w.err == nil; n-- {
			w.field(f.elem)
		}
	case kindStruct:
		w.structure(f.sub)
	case kindMaybe:
		if len(w.b) == 0 {
			w.fail(errShort)
			return
		}
		present := int8(w.b[0]) != -1
		w.b = w.b[1:]
		if present {
			w.cost += f.sub.size
			w.structure(f.sub)
		}
	}
}

func (w *walker) tags(s *structure) {
	n := w.uvarint()
	last := int64(-1)
	unknown := false
	for ; n > 0 && w.err == nil; n-- {
		tag, size := w.uvarint(), w.uvarint()
		if w.err != nil {
			return
		}
		if int64(tag) <= last {
			w.fail(errTags)
			return
		}
		last = int64(tag)
		if int64(size) > int64(len(w.b)) {
			w.fail(errShort)
			return
		}
		if int64(tag) >= int64(len(s.tags)) {
			w.cost += tagCost
			if !unknown {
				w.cost += tagMapCost
				unknown = true
			}
			w.skip(int(size))
			continue
		}
		after := w.b[size:]
		w.b = w.b[:size]
		w.field(&s.tags[tag])
		if len(w.b) != 0 {
			w.fail(errTagSize)
		}
		w.b = after
	}
}
