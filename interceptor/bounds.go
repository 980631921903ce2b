package interceptor

import (
	"errors"
	"fmt"
	"strings"

	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/sdk/temporal"

	"github.com/atmostonce/atmostonce/internal/engine"
	"github.com/atmostonce/atmostonce/store"
)

const (
	// maxCauses is how many causes, one of the other, a recorded failure has at most.
	// The SDK copies all the rest for each one that it turns into an error.
	maxCauses = 100
	// maxContext bounds the JSON of a target, and why an outcome is missing.
	maxContext = 64 << 10
	maxMissing = 1 << 10
	// maxErrorText bounds what is kept of the text of an error that is not kept
	// whole.
	maxErrorText = 16 << 10
)

// bound is the size in bytes up to which outcomes are recorded and read: that of a
// result at its limit, with room for what encryption adds.
func (c *converters) bound() int {
	limit := c.limit
	if limit == 0 {
		limit = engine.MaxOutcome
	}
	return min(limit+limit/2+64<<10, store.MaxData)
}

// fits refuses data that the guard does not record.
func (c *converters) fits(data []byte) error {
	if bound := c.bound(); len(data) > bound {
		return fmt.Errorf("its %d bytes are more than Options.MaxOutcome lets in, %d with what encryption adds", len(data), bound)
	}
	return nil
}

// fitsCauses refuses a failure with more causes than the guard records.
func fitsCauses(f *failurepb.Failure) error {
	for range maxCauses + 1 {
		if f == nil {
			return nil
		}
		f = f.GetCause()
	}
	return fmt.Errorf("more than %d causes, one of the other", maxCauses)
}

// shortened returns err. If that has too many causes, it returns an error of its
// kind and text that has none.
func shortened(err error) error {
	cause := err
	for range maxCauses { // one less than are read: encodeFailure may add one
		if cause == nil {
			return err
		}
		cause = errors.Unwrap(cause)
	}
	return plain(err, fmt.Sprintf("its causes: more than %d, one of the other", maxCauses))
}

// plain returns an error of err's kind and text that has no details and no causes,
// and says which of them it has left out.
func plain(err error, without string) error {
	kind, text := kindOf(err)
	if len(text) > maxErrorText {
		text = text[:maxErrorText] + "…"
	}
	return temporal.NewNonRetryableApplicationError(
		fmt.Sprintf("%s (atmostonce has left out %s)", strings.ToValidUTF8(text, ""), without), clip(kind, maxCause), nil)
}
