package txn

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/atmostonce/atmostonce/internal/effect"
)

// patience is for how long a transaction that may yet commit is waited for.
const patience = 10 * time.Second

// skew is by how much the clocks of the database and of the guard's store may differ.
const skew = time.Minute

// Decide implements the guard's ledger: see Decides.
func (d *DB) Decide(ctx context.Context, r effect.Run) (effect.Outcome, error) {
	return d.decide(ctx, r, r.Owner)
}

// decide returns the outcome of the effect, or bars owner and returns ErrNotDone. The
// bar waits for a transaction that has written the marker and not ended; what it meets
// then is final.
func (d *DB) decide(ctx context.Context, r effect.Run, owner string) (effect.Outcome, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("txn: not within %v: is a transaction of the interrupted run open?", patience))
	defer cancel()
	generation := int64(r.Generation) //nolint:gosec // a count
	f, err := d.readRow(ctx, d.db, r.Key, generation)
	if err == nil && !f.done {
		if err := d.beforeHorizon(f, r); err != nil {
			return effect.Outcome{}, err
		}
		err = retry(ctx, func() error { return d.barOwner(ctx, d.db, r.Key, generation, owner) })
		if err == nil {
			f, err = d.readRow(ctx, d.db, r.Key, generation)
		}
	}
	switch {
	case err != nil:
		return effect.Outcome{}, within(ctx, err)
	case !f.done:
		return effect.Outcome{}, effect.ErrNotDone
	case f.owner == "":
		return effect.Outcome{}, ErrEnded
	case f.match != matchDigest(r.Match):
		return effect.Outcome{}, ErrMismatch
	}
	return effect.Outcome{Data: f.outcome, Context: f.encoding}, nil
}

// beforeHorizon returns ErrPruned if the marker of r may have been pruned.
func (d *DB) beforeHorizon(f found, r effect.Run) error {
	if f.pruned == 0 {
		return nil
	}
	horizon := time.UnixMicro(f.pruned).UTC()
	if !r.At.IsZero() && r.At.After(horizon.Add(skew)) {
		return nil
	}
	return fmt.Errorf("%w: everything before %v; the run began at %v", ErrPruned, horizon.Format(time.RFC3339), r.At.UTC().Format(time.RFC3339))
}

// Confirm implements the guard's ledger: see Decides.
func (d *DB) Confirm(ctx context.Context, r effect.Run) error {
	f, err := d.readRow(ctx, d.db, r.Key, int64(r.Generation)) //nolint:gosec // a count
	switch {
	case err != nil:
		return err
	case f.done, errors.Is(d.beforeHorizon(f, r), ErrPruned):
		return nil
	}
	return fmt.Errorf("%w: the record says that it took place, and the database has no marker of it: was the database restored to an earlier time, or the marker removed? If the effect is gone, reopen the record, and it happens again; if it is there, say so as an operator", effect.ErrMissing)
}
