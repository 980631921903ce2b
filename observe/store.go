package observe

import (
	"context"
	"errors"

	"github.com/atmostonce/atmostonce/store"
)

var (
	storeOperations = []string{"acquire", "renew", "settle", "release", "takeover", "resolve", "load", "list", "check"}
	storeFailures   = []struct {
		err       error
		errorType string
	}{
		{store.ErrCorrupt, "corrupt"}, {store.ErrVersion, "version"}, {store.ErrFull, "full"}, {store.ErrInvalid, "invalid"},
		{store.ErrUnreplicated, "unreplicated"}, {store.ErrQuarantine, "quarantine"}, {context.DeadlineExceeded, "timeout"},
	}
)

const storeUnavailable = "unavailable"

func storeErrorTypes() []string {
	types := []string{storeUnavailable}
	for _, f := range storeFailures {
		types = append(types, f.errorType)
	}
	return types
}

// StoreErrorType is the error.type of a call to the store that ended in err: "" also
// for the answers of the protocol, which are no failures.
func StoreErrorType(err error) string {
	for _, answer := range []error{nil, store.ErrSuperseded, store.ErrConflict, store.ErrMoved, store.ErrGone} {
		if errors.Is(err, answer) {
			return ""
		}
	}
	for _, f := range storeFailures {
		if errors.Is(err, f.err) {
			return f.errorType
		}
	}
	return storeUnavailable
}
