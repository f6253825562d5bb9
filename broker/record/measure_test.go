package record

import (
	"bytes"
	"errors"
	"testing"
)

func TestMeasure(t *testing.T) {
	text := bytes.Repeat([]byte("org.apache.kafka.producer.connection.creation.total "), 400)
	for c := None; c <= Zstd; c++ {
		b := text
		if c != None {
			var err error
			if b, err = compress(nil, c, text); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := Measure(c, b, int64(len(text))); n != int64(len(text)) || err != nil {
			t.Errorf("%v: %d bytes, %v; want %d", c, n, err, len(text))
		}
		if _, err := Measure(c, b, int64(len(text))-1); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%v: one byte too much gives %v", c, err)
		}
		if c == None {
			continue
		}
		if _, err := Measure(c, []byte("this is no such thing at all"), 100); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%v: nonsense gives %v", c, err)
		}
	}
	if _, err := Measure(99, text, 100); !errors.Is(err, ErrCodec) {
		t.Errorf("codec 99 gives %v", err)
	}
}
