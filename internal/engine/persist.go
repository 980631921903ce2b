package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/atmostonce/atmostonce/store"
)

// storeTimeout bounds one call of the store.
const storeTimeout = 5 * time.Second

// persist repeats a write until the store says what became of it.
func persist(ctx, stop context.Context, write func(context.Context) (store.Record, error)) (store.Record, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(stop, cancel)()
	var last error // that said nothing
	try := func() (store.Record, error) {
		try, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		r, err := write(try)
		if err != nil && definite(err) && !errors.Is(err, store.ErrFull) {
			last = nil
			return r, backoff.Permanent(err)
		}
		last = err
		return r, err
	}
	r, err := try()
	if err == nil { // as a rule
		return r, nil
	}
	interval := backoff.NewExponentialBackOff()
	interval.InitialInterval, interval.MaxInterval = 50*time.Millisecond, 5*time.Second
	tried := true
	r, err = backoff.Retry(ctx, func() (store.Record, error) {
		if tried {
			tried = false
			return r, err
		}
		return try()
	}, backoff.WithBackOff(interval), backoff.WithMaxElapsedTime(0))
	if err != nil && ctx.Err() != nil && last != nil {
		err = fmt.Errorf("%w: %w", err, last)
	}
	return r, err
}

// definite reports whether err says what the store did.
func definite(err error) bool {
	for _, e := range []error{store.ErrSuperseded, store.ErrConflict, store.ErrMoved, store.ErrGone,
		store.ErrCorrupt, store.ErrVersion, store.ErrFull, store.ErrInvalid, store.ErrQuarantine} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
