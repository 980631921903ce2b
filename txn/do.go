package txn

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/atmostonce/atmostonce/internal/effect"
	"github.com/atmostonce/atmostonce/once"
)

// marker is what is written with an effect.
type marker struct {
	key        string
	generation int64
	call       string // nonce of the call's claim
	try        string // nonce of the transaction
	match      string // digest
	outcome    effect.Outcome
}

// owner is barred alone where a commit got no answer, and with the whole call where the
// guard has given that up.
func (m marker) owner() string { return m.call + "/" + m.try }

func newMarker(c *effect.Call, o effect.Outcome) marker {
	if o.Data == nil {
		o.Data = []byte{}
	}
	return marker{key: c.Key, generation: int64(c.Generation), call: c.Owner, try: nonce(), match: matchDigest(c.Match), outcome: o} //nolint:gosec // a count
}

func nonce() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// matchDigest is of one length, and shows no input.
func matchDigest(match string) string {
	if match == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(match))
	return hex.EncodeToString(sum[:])
}

func runOf(c *effect.Call) effect.Run {
	return effect.Run{Key: c.Key, Generation: c.Generation, Owner: c.Owner, Match: c.Match, At: time.Now()}
}

// Do is the effect of a guarded call, exactly once for its key: it begins a transaction,
// runs f in it, and commits, with what f returned. If the effect took place already, Do
// returns what that run returned; f may have been run, and was rolled back. ctx must be
// the context of the guarded call or step, or derived from it, and R the type of its
// result, for that is what the guard records, and what duplicates get.
//
// f must leave Commit and Rollback to Do ([ErrEnded]), have all of its effect in tx, and
// return the errors of its statements. An error of f rolls back and is returned. A
// transaction that conflicts with another one is run again, until ctx has ended, for 15
// minutes at most; so is one whose commit got no answer and did not take place. If that
// cannot be found out, the error says that the effect may have happened.
//
// A call, or a step, has one effect: another Do after it is [ErrSecond]. Where the guard
// runs a call without a claim (mode Off, say), f is run and nothing written down. Outside
// of a guarded call it is [ErrUnguarded].
func Do[R any](ctx context.Context, d *DB, f func(ctx context.Context, tx *sql.Tx) (R, error)) (result R, err error) {
	c, ok := effect.FromContext(ctx)
	if !ok {
		return result, ErrUnguarded
	}
	if !c.Guarded {
		err = retry(ctx, func() error {
			_, err := transact(ctx, d.db, d.isolation, func(tx *sql.Tx) (err error) { result, err = f(ctx, tx); return err }, func(*sql.Tx) error { return nil })
			return err
		})
		return result, err
	}
	if t := reflect.TypeFor[R](); c.Out != nil && c.Out != t {
		return result, fmt.Errorf("%w: %v, not %v", ErrResult, t, c.Out)
	}
	if c.Ledger != "" && c.Ledger != d.id {
		return result, fmt.Errorf("%w: the policy goes by %s, this is %s", ErrOtherLedger, c.Ledger, d.id)
	}
	e := &attempt{DB: d, call: c}
	err = retry(ctx, func() error {
		return e.run(ctx, func(tx *sql.Tx) (any, error) {
			r, err := f(ctx, tx)
			result = r
			return r, err
		})
	})
	if err == nil && e.other {
		var won R
		err = c.Decode(ctx, e.outcome, &won)
		result = won
	}
	if err != nil {
		var none R
		return none, err
	}
	return result, nil
}

// attempt is the effect of a call, tried.
type attempt struct {
	*DB
	call    *effect.Call
	outcome effect.Outcome // that was committed
	other   bool           // by another transaction
}

// run is one transaction.
func (a *attempt) run(ctx context.Context, f func(*sql.Tx) (any, error)) error {
	var m marker
	lost := false
	unknown, err := transact(ctx, a.db, a.isolation, func(tx *sql.Tx) error {
		result, err := f(tx)
		if err != nil {
			return err
		}
		o, err := a.call.Encode(ctx, result)
		if err != nil {
			return fmt.Errorf("txn: the result cannot be kept, and nothing was committed: %w", err)
		}
		m = newMarker(a.call, o)
		return nil
	}, func(tx *sql.Tx) error {
		written, err := a.writeMarker(ctx, tx, m)
		if lost = err == nil && !written; lost {
			return errLost
		}
		return err
	})
	switch {
	case err == nil:
		a.outcome = m.outcome
		return a.call.Committed(m.outcome)
	case errors.Is(err, ErrEnded):
		if broken := a.noteEnd(ctx); broken != nil {
			err = errors.Join(err, broken)
		}
		return once.MaybeDone(err)
	case unknown:
		return a.readBack(ctx, m, err)
	}
	if troubleOf(err) == conflict && !lost {
		return err
	}
	return a.takeOther(ctx, lost, err)
}

// errLost ends a transaction whose marker was refused.
var errLost = errors.New("txn: the marker was refused")

// takeOther looks for the effect after a transaction that was rolled back because of err:
// if it took place already, that is the answer, whatever err is. The function may well have
// failed because it did.
func (a *attempt) takeOther(ctx context.Context, lost bool, err error) error {
	f, broken := a.readRow(ctx, a.db, a.call.Key, int64(a.call.Generation)) //nolint:gosec // a count
	switch {
	case broken != nil && lost:
		return within(ctx, broken)
	case broken != nil:
		return err
	case !f.done && lost:
		return ErrBarred
	case !f.done:
		return err
	case f.owner == "":
		return once.MaybeDone(errors.Join(ErrEnded, err))
	case strings.HasPrefix(f.owner, a.call.Owner+"/"):
		return errors.Join(ErrSecond, err)
	case f.match != matchDigest(a.call.Match):
		return ErrMismatch
	}
	a.outcome, a.other = effect.Outcome{Data: f.outcome, Context: f.encoding}, true
	return a.call.Committed(a.outcome)
}

// readBack finds out what came of a commit that failed with err. If the effect did not
// take place, and err is not what the database says about it, it is to be tried again.
func (a *attempt) readBack(ctx context.Context, m marker, err error) error {
	o, broken := a.decide(ctx, runOf(a.call), m.owner())
	switch {
	case broken == nil:
		a.outcome, a.other = o, true
		return a.call.Committed(o)
	case errors.Is(broken, effect.ErrNotDone) && answered(err):
		return err
	case errors.Is(broken, effect.ErrNotDone):
		return &againError{err}
	}
	return once.MaybeDone(fmt.Errorf("txn: the commit may have taken place: %w; it could not be read back: %w", err, broken))
}

// noteEnd writes down that nothing can be said about the effect.
func (a *attempt) noteEnd(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	return retry(ctx, func() error {
		_, err := a.db.ExecContext(ctx, a.end, a.call.Key, int64(a.call.Generation)) //nolint:gosec // a count
		return err
	})
}

// Executor is a transaction: a *sql.Tx, or what adapts another one.
type Executor interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// Done writes down, in a transaction of your own, that the effect of the guarded call
// takes place with it. The transaction must be of the ledger's own database, which is not
// checked: a marker in another one would not be found. Call it as the last thing before
// the commit, with the result of the call: that is what the guard records. The policy of
// the call must be that of Decides ([ErrOtherLedger]), because the guard asks the
// database, once the function has ended, whether the transaction was committed. If it was,
// that is the answer, whatever the function returns; if it was not, the effect did not
// take place, and the call is an error even if the function returns none. This costs a
// SELECT, which Do does not need.
//
// An error of Done means: roll back, and return the error. On a conflict with another
// transaction the whole of it may be tried again.
func (d *DB) Done(ctx context.Context, tx Executor, result any) error {
	c, ok := effect.FromContext(ctx)
	if !ok {
		return ErrUnguarded
	}
	if !c.Guarded {
		return nil
	}
	if t := reflect.TypeOf(result); c.Out != nil && t != c.Out && (c.Out.Kind() != reflect.Interface || t != nil && !t.Implements(c.Out)) {
		return fmt.Errorf("%w: %v, not %v", ErrResult, t, c.Out)
	}
	if c.Ledger != d.id {
		return fmt.Errorf("%w: Done needs InDoubt to be this ledger's Decides", ErrOtherLedger)
	}
	o, err := c.Encode(ctx, result)
	if err != nil {
		return fmt.Errorf("txn: the result cannot be kept: %w", err)
	}
	written, err := d.writeMarker(ctx, tx, newMarker(c, o))
	switch {
	case err == nil && !written:
		return ErrTaken
	case errors.Is(err, ErrEnded): // there is no transaction: this is written at once
		if _, broken := tx.ExecContext(ctx, d.end, c.Key, int64(c.Generation)); broken != nil { //nolint:gosec // a count
			err = errors.Join(err, broken)
		}
		return once.MaybeDone(err)
	}
	return err
}
