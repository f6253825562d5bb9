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

// mostBadRecords bounds what a RecordError names. Why: a batch holds millions of tiny records, and the answer names each.
const mostBadRecords = 1000

// RecordError is a refusal of Check for the sake of some of the batch's records (KIP-467).
type RecordError struct {
	Records []BadRecord // at least one, in the batch's order; the first ones where there are very many
}

// BadRecord is one record that Check refuses.
type BadRecord struct {
	Index int32 // of the record in its batch
	Err   error // one of the above, with the reason
}

func (e *RecordError) Error() string { return e.Records[0].Err.Error() }

// Unwrap gives the reason of the first one.
func (e *RecordError) Unwrap() error { return e.Records[0].Err }

func badRecord(i int32, err error) *RecordError {
	return &RecordError{Records: []BadRecord{{Index: i, Err: err}}}
}
