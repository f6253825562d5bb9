package api

import (
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/belfry-mq/belfry/broker/storage"
)

// TestPassingTroubleIsRetried holds the codes of trouble that passes to ones after which
// producers try again: a client gives its messages up after UNKNOWN_SERVER_ERROR.
func TestPassingTroubleIsRetried(t *testing.T) {
	for _, err := range []error{
		storage.ErrStaleEpoch, storage.ErrClosed, storage.ErrFull, storage.ErrOffline,
		syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM,
	} {
		wrapped := fmt.Errorf("cannot start a segment: %w", &os.PathError{Op: "open", Path: "x", Err: err})
		if code := kerr.ErrorForCode(codeOf(wrapped)); !kerr.IsRetriable(code) {
			t.Errorf("%v becomes %v, which clients do not try again", err, code)
		}
	}
}
