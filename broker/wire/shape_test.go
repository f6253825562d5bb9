package wire

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// fill sets every field of v to something random.
func fill(r *rand.Rand, v reflect.Value, depth int) {
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(r.Uint64()) >> (64 - v.Type().Bits()))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		v.SetUint(r.Uint64() >> (64 - v.Type().Bits()))
	case reflect.Float64:
		v.SetFloat(r.Float64())
	case reflect.String:
		v.SetString(string(text(r)))
	case reflect.Pointer:
		if r.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(r, v.Elem(), depth+1)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(r, v.Index(i), depth+1)
		}
	case reflect.Slice:
		n := r.IntN(4)
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(text(r))
			return
		}
		if n == 3 && r.IntN(2) == 0 {
			return // null
		}
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(r, v.Index(i), depth+1)
		}
	case reflect.Struct:
		if tags, ok := v.Addr().Interface().(*kmsg.Tags); ok {
			for range r.IntN(3) {
				tags.Set(100+uint32(r.IntN(1000)), text(r))
			}
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).Name != "Version" {
				fill(r, v.Field(i), depth+1)
			}
		}
	default:
		panic(fmt.Sprintf("field of kind %s", v.Kind()))
	}
}

func text(r *rand.Rand) []byte {
	b := make([]byte, r.IntN(200)*r.IntN(2))
	for i := range b {
		b[i] = 'a' + byte(r.IntN(26))
	}
	return b
}

func keysOf(shapes map[int16]*shape) []int16 {
	var keys []int16
	for k := range shapes {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// eachVersion calls f with every request that the table knows.
func eachVersion(t *testing.T, f func(t *testing.T, s *shape, key, version int16)) {
	shapes := newShapes()
	for _, key := range keysOf(shapes) {
		s := shapes[key]
		for version := int16(0); version <= s.max; version++ {
			t.Run(fmt.Sprintf("%s/%d", s.name, version), func(t *testing.T) { f(t, s, key, version) })
		}
	}
}

func randomBody(r *rand.Rand, key, version int16) (kmsg.Request, []byte) {
	req := kmsg.RequestForKey(key)
	fill(r, reflect.ValueOf(req).Elem(), 0)
	req.SetVersion(version)
	return req, req.AppendTo(nil)
}

// TestTableCoversEveryVersion: what kmsg can decode, the table must know.
func TestTableCoversEveryVersion(t *testing.T) {
	shapes := newShapes()
	for _, key := range []int16{0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33,
		34, 35, 36, 37, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 55, 57, 60, 61, 64, 65, 66, 68, 69, 74, 75} {
		s, req := shapes[key], kmsg.RequestForKey(key)
		if s == nil {
			t.Errorf("no shape for key %d", key)
			continue
		}
		if s.max != req.MaxVersion() {
			t.Errorf("%s: versions to %d, kmsg to %d", s.name, s.max, req.MaxVersion())
		}
		for v := int16(0); v <= s.max; v++ {
			req.SetVersion(v)
			if req.IsFlexible() != (v >= s.flexible) {
				t.Errorf("%s version %d: flexible is %v in kmsg", s.name, v, req.IsFlexible())
			}
		}
	}
}

// TestWalkTakesWhatKmsgWrites: random requests of every version are accepted and consumed to the byte, and the cost
// is not below what kmsg then allocates.
func TestWalkTakesWhatKmsgWrites(t *testing.T) {
	eachVersion(t, func(t *testing.T, s *shape, key, version int16) {
		r := rand.New(rand.NewPCG(uint64(key), uint64(version)))
		for range 40 {
			req, body := randomBody(r, key, version)
			cost, rest, err := s.walk(body, version)
			if err != nil {
				t.Fatalf("%v\n%+v", err, req)
			}
			if len(rest) != 0 {
				t.Fatalf("%d of %d bytes are left", len(rest), len(body))
			}
			if cost > maxGrowth*int64(len(body))+growthFloor {
				t.Errorf("honest request of %d bytes would cost %d", len(body), cost)
			}
			if cut := body[:r.IntN(len(body)+1)]; len(cut) < len(body) {
				agree(t, s, key, version, cut)
			}
		}
	})
}

// agree checks that what the walk accepts kmsg decodes in time, and gives whether both accept it. (The walk does not know
// which strings may be null: there kmsg judges.)
func agree(t *testing.T, s *shape, key, version int16, body []byte) bool {
	t.Helper()
	cost, rest, err := s.walk(body, version)
	if err != nil {
		return false
	}
	if len(rest) > len(body) {
		t.Fatal("the walk gives more than it got")
	}
	if cost > maxGrowth*int64(len(body))+growthFloor {
		return false
	}
	req := kmsg.RequestForKey(key)
	req.SetVersion(version)
	begin := time.Now()
	err = req.ReadFrom(body[:len(body)-len(rest)])
	if took := time.Since(begin); took > 2*time.Second {
		t.Fatalf("%s version %d: %d bytes took %s", s.name, version, len(body), took)
	}
	return err == nil
}

// TestWalkMutations changes bytes of good requests: the walk refuses, or kmsg reads what it accepted in bounds.
func TestWalkMutations(t *testing.T) {
	eachVersion(t, func(t *testing.T, s *shape, key, version int16) {
		r := rand.New(rand.NewPCG(uint64(version), uint64(key)))
		for range 60 {
			_, body := randomBody(r, key, version)
			if len(body) == 0 {
				continue
			}
			for range 1 + r.IntN(3) {
				body[r.IntN(len(body))] = []byte{0, 1, 2, 0x7f, 0x80, 0xff, byte(r.Uint32())}[r.IntN(7)]
			}
			agree(t, s, key, version, body)
		}
	})
}

// TestCostCoversDecoding measures what kmsg allocates for arrays of the smallest elements.
func TestCostCoversDecoding(t *testing.T) {
	shapes := newShapes()
	for _, c := range []struct {
		key, version int16
		body         []byte
	}{
		{3, 1, append([]byte{0, 0, 0x10, 0}, make([]byte, 2*4096)...)},           // Metadata: 4096 empty names
		{42, 2, append([]byte{0x81, 0x20}, bytes.Repeat([]byte{1}, 4097)...)},    // DeleteGroups: compact strings
		{19, 7, append([]byte{0x81, 0x02}, bytes.Repeat([]byte{1}, 4000)...)},    // CreateTopics
		{0, 9, append([]byte{0, 0, 1, 0, 0, 0, 1}, make([]byte, 4000)...)},       // Produce
		{50, 0, append([]byte{0x81, 0x10}, bytes.Repeat([]byte{1, 0}, 2049)...)}, // users
	} {
		s := shapes[c.key]
		cost, rest, err := s.walk(c.body, c.version)
		if err != nil {
			continue // such a body is refused: it costs nothing
		}
		body := c.body[:len(c.body)-len(rest)]
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		req := kmsg.RequestForKey(c.key)
		req.SetVersion(c.version)
		err = req.ReadFrom(body)
		runtime.ReadMemStats(&after)
		got := int64(after.TotalAlloc - before.TotalAlloc)
		if got > 2*cost+16<<10 { // twice: the race detector keeps the compiler from growing in place
			t.Errorf("%s version %d: %d bytes allocated, %d foreseen (%v)", s.name, c.version, got, cost, err)
		}
	}
}

// TestTagBomb is the seven bytes that keep kmsg busy for minutes.
func TestTagBomb(t *testing.T) {
	s := newShapes()[keyVersions]
	for _, body := range [][]byte{
		{1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f},
		{1, 1, 2, 5, 0, 5, 0},                      // the same tag twice
		{1, 1, 2, 6, 0, 5, 0},                      // descending
		{1, 1, 1, 5, 9},                            // longer than what is left
		{1, 1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80}, // endless number
		{0xff, 0xff, 0xff, 0xff, 0x0f, 1},          // string
	} {
		if _, _, err := s.walk(body, 3); err == nil {
			t.Errorf("%v is accepted", body)
		}
	}
	if _, rest, err := s.walk([]byte{1, 1, 2, 5, 0, 6, 0}, 3); err != nil || len(rest) != 0 {
		t.Errorf("unknown tags in order: %v", err)
	}
}

func FuzzWalk(f *testing.F) {
	shapes := newShapes()
	keys := keysOf(shapes)
	r := rand.New(rand.NewPCG(9, 9))
	for _, key := range keys {
		_, body := randomBody(r, key, shapes[key].max)
		f.Add(uint8(key), uint8(shapes[key].max), body)
	}
	f.Fuzz(func(t *testing.T, key, version uint8, body []byte) {
		s := shapes[int16(key)]
		if s == nil || int16(version) > s.max || len(body) > maxPlainFrame {
			return
		}
		agree(t, s, int16(key), int16(version), body)
	})
}

func BenchmarkWalk(b *testing.B) {
	shapes := newShapes()
	req := kmsg.NewPtrFetchRequest()
	req.Version = 12
	for range 10 {
		topic := kmsg.NewFetchRequestTopic()
		topic.Topic = "a-topic-of-usual-length"
		for range 10 {
			topic.Partitions = append(topic.Partitions, kmsg.NewFetchRequestTopicPartition())
		}
		req.Topics = append(req.Topics, topic)
	}
	body := req.AppendTo(nil)
	b.Run("walk", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(body)))
		for b.Loop() {
			if _, _, err := shapes[1].walk(body, 12); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(body)))
		for b.Loop() {
			var again kmsg.FetchRequest
			again.Version = 12
			if err := again.ReadFrom(body); err != nil {
				b.Fatal(err)
			}
		}
	})
}
