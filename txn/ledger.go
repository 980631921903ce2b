package txn

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/atmostonce/atmostonce/internal/effect"
	"github.com/atmostonce/atmostonce/once"
)

// patience is for how long a transaction that may yet commit is waited for.
const patience = 10 * time.Second

// skew is by how much the clocks of the database and of the guard's store may differ.
const skew = time.Minute

// Decides is a policy for doubt: the marker says whether the effect of an interrupted run took
// place. If it did, its result is the call's, and the record is healed. If it did
// not, and the run is barred from it, the next attempt runs at once. There is no settle
// delay, no operator and no function to write. While a transaction of the interrupted run
// is open, the call stays in doubt, and the caller comes back. A result that the guard has
// recorded is looked up here before a duplicate gets it, with one SELECT: see the package's
// documentation on restores.
//
// All that the call does must be in the transaction of Do or Done: of anything else this
// policy would say that it was not done.
func (d *DB) Decides() once.DoubtPolicy { return once.DecidedBy(d) }

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
