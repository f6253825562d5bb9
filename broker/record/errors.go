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

// RecordError says which record a batch was refused for.
type RecordError struct {
	Index int32 // within the batch
	Err   error
}

// Error implements error.
func (e *RecordError) Error() string { return e.Err.Error() }

// Unwrap implements errors.Unwrap.
func (e *RecordError) Unwrap() error { return e.Err }
