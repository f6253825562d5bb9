package api

import (
	"fmt"

	"github.com/belfry-mq/belfry/broker/record"
)

// recode gives checked batches with the codec that compression.type names; those
// that have it already, and all under "producer", stay as they are.
func recode(b []byte, name string) ([]byte, error) {
	if name == "producer" {
		return b, nil
	}
	codec, err := record.ParseCodec(name)
	if err != nil {
		return nil, err
	}
	var out []byte
	changed := false
	for rest := b; len(rest) > 0; {
		h, err := record.ReadHeader(rest)
		if err != nil {
			return nil, err
		}
		batch := rest[:h.Size()]
		rest = rest[h.Size():]
		if h.Codec() != codec {
			changed = true
			if batch, err = rebuild(batch, h, codec); err != nil {
				return nil, fmt.Errorf("cannot compress batch with %s: %w", codec, err)
			}
		}
		out = append(out, batch...)
	}
	if !changed {
		return b, nil
	}
	return out, nil
}

// rebuild makes the batch anew with another codec; producer, sequence and times stay.
func rebuild(batch []byte, h record.Header, codec record.Codec) ([]byte, error) {
	builder := record.NewBuilder(codec)
	builder.Header = h
	err := record.Each(batch, func(r record.Record) error {
		builder.AddAt(r)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return builder.Build()
}
