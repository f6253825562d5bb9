package record

import "errors"

// What is wrong with a batch; compare with errors.Is. Each stands for one Kafka error code.
var (
	ErrCorrupt   = errors.New("batch is corrupt")                  // CORRUPT_MESSAGE
	ErrInvalid   = errors.New("record is invalid")                 // INVALID_RECORD
	ErrTooLarge  = errors.New("batch is too large")                // MESSAGE_TOO_LARGE
	ErrFormat    = errors.New("message format is not supported")   // UNSUPPORTED_FOR_MESSAGE_FORMAT
	ErrCodec     = errors.New("compression type is not supported") // UNSUPPORTED_COMPRESSION_TYPE
	ErrTimestamp = errors.New("timestamp is out of bounds")        // INVALID_TIMESTAMP
)

// RecordError is a refusal of Check for the sake of one sound record; malformed ones refuse the whole batch.
type RecordError struct {
	Index int32 // of the record in its batch
	Err   error // one of the above, with the reason
}

func (e *RecordError) Error() string { return e.Err.Error() }

// Unwrap gives the reason.
func (e *RecordError) Unwrap() error { return e.Err }

// RecordIndex gives the number of the record in its batch (KIP-467).
func (e *RecordError) RecordIndex() int32 { return e.Index }
