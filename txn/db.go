package txn

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/atmostonce/atmostonce/internal/effect"
)

// Options are the options of Open. None is required.
type Options struct {
	// Schema is the schema, in MySQL the database, that has the tables. Defaults to
	// the connection's.
	Schema string
	// Prefix begins the names of the tables. Defaults to "atmostonce_".
	Prefix string
	// Isolation is that of the transactions of Do. Defaults to the database's.
	Isolation sql.IsolationLevel
	// Apply makes the tables if they are not there, which takes the rights to do so.
	// Without it Open changes nothing.
	Apply bool
	// Adopt takes over tables that were made in another database: moved with all of their
	// rows by a dump, say, or renamed, or upgraded to another cluster. The database that
	// they come from must not be used any more: each of the two would let an effect happen.
	// A copy that is to go on beside the original, such as one for tests, needs a ledger of its own:
	// drop its two tables, and Apply.
	Adopt bool
}

// DB is a database that has a ledger of effects. Its methods may be called from any
// number of goroutines. Make it with Open.
type DB struct {
	db        *sql.DB
	id        string
	isolation sql.IsolationLevel
	statements
}

// Open returns the ledger in db, which it neither keeps connections of nor closes. It
// asks the database what it is, compares the tables with what this package knows, and
// tries a marker in a transaction that it rolls back: what cannot serve is an error here, and not at
// the first effect.
func Open(ctx context.Context, db *sql.DB, o Options) (*DB, error) {
	dialect, err := dialectOf(ctx, db)
	if err != nil {
		return nil, fmt.Errorf("txn: the database does not say what it is: %w", err)
	}
	t, err := o.tables(dialect)
	if err != nil {
		return nil, err
	}
	d := &DB{db: db, isolation: o.Isolation, statements: dialect.statements(t)}
	err = d.verify(ctx, o)
	if o.Apply && errors.Is(err, ErrNoTable) {
		applied := retry(ctx, func() error { return apply(ctx, db, dialect, o) })
		if err = d.verify(ctx, o); err != nil {
			err = errors.Join(applied, err)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := retry(ctx, func() error { return d.probe(ctx) }); err != nil {
		return nil, err
	}
	return d, nil
}

// verify reads the row about the table, and compares.
func (d *DB) verify(ctx context.Context, o Options) error {
	var version int
	var system, name string
	var pruned int64
	err := d.db.QueryRowContext(ctx, d.ledger).Scan(&version, &d.id, &system, &name, &pruned)
	switch {
	case errors.Is(err, sql.ErrNoRows), err != nil && troubleOf(err) == noTable:
		return fmt.Errorf("%w: %w", ErrNoTable, err)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnfit, err)
	case version < schemaVersion:
		return fmt.Errorf("%w: %d; this program needs %d", ErrOlderSchema, version, schemaVersion)
	case version > schemaVersion:
		return fmt.Errorf("%w: %d; it knows %d", ErrNewerSchema, version, schemaVersion)
	}
	var here, now sql.NullString
	if err := d.db.QueryRowContext(ctx, d.where).Scan(&here, &now); err != nil {
		return fmt.Errorf("txn: the database does not say which one it is: %w", err)
	}
	if here.String == system && d.sameName(now.String, name) {
		return nil
	}
	if !o.Adopt {
		return fmt.Errorf("%w: made in %s, found in %s: if they were moved with all of their rows, set Options.Adopt once; if this is a copy, drop its tables and make new ones",
			ErrOtherDatabase, place(system, name), place(here.String, now.String))
	}
	_, err = d.db.ExecContext(ctx, d.adopt, here.String, now.String)
	return err
}

// sameName compares names of databases. That of SQLite is its file's: the directory may
// be another one on each machine.
func (d *DB) sameName(a, b string) bool {
	if d.Dialect == SQLite {
		a, b = path.Base(strings.ReplaceAll(a, `\`, "/")), path.Base(strings.ReplaceAll(b, `\`, "/"))
	}
	return a == b
}

func place(system, name string) string {
	if system == "" {
		return fmt.Sprintf("%q", name)
	}
	return fmt.Sprintf("%q of system %s", name, system)
}

// probe tries out a marker: twice, for the second one must be refused.
func (d *DB) probe(ctx context.Context) error {
	m := marker{key: "probe " + nonce(), match: "", call: "probe", try: nonce()}
	unfit := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrUnfit}, args...)...)
	}
	tx, err := d.db.BeginTx(ctx, &sql.TxOptions{Isolation: d.isolation})
	if err != nil {
		return unfit("%w", err)
	}
	first, err := d.writeMarker(ctx, tx, m)
	second := false
	if err == nil && first {
		second, err = d.writeMarker(ctx, tx, m)
	}
	if rolled := tx.Rollback(); err == nil && rolled != nil {
		err = rolled
	}
	switch {
	case err != nil:
		return unfit("a marker cannot be written: %w", err)
	case !first || second:
		return unfit("no primary key, or a trigger, changes markers")
	}
	f, err := d.readRow(ctx, d.db, m.key, m.generation)
	if err != nil {
		return unfit("%w", err)
	}
	if f.done {
		return unfit("a marker was there after its transaction had been rolled back; on MySQL the engine must be InnoDB")
	}
	return nil
}

// ID names the ledger: a random text, which was made with its tables.
func (d *DB) ID() string { return d.id }

// pruneBatch is how many markers one statement removes.
const pruneBatch = 1000

// Prune removes the markers of effects that took place before keep ago, by the database's
// clock, and returns how many. It removes some at a time, and may be stopped and run
// again, by several processes too.
//
// A marker must be kept for longer than the guard's record of the call and than the call can be
// tried again or asked for again: longer than Policy.TTL, or an effect may happen twice
// where the guard's store has lost its records. What was pruned is remembered as a time: an
// interrupted run that began before is left in doubt ([ErrPruned]), and a record of an effect before it
// is believed.
func (d *DB) Prune(ctx context.Context, keep time.Duration) (removed int64, err error) {
	us := keep.Microseconds()
	if us <= 0 {
		return 0, fmt.Errorf("txn: Prune(%v): markers must be kept for a time", keep)
	}
	if err := retry(ctx, func() error { _, err := d.db.ExecContext(ctx, d.raise, us, us); return err }); err != nil {
		return 0, err
	}
	for {
		var n int64
		err := retry(ctx, func() error {
			r, err := d.db.ExecContext(ctx, d.prune, pruneBatch)
			if err == nil {
				n, err = r.RowsAffected()
			}
			return err
		})
		if removed += n; err != nil || n < pruneBatch {
			return removed, err
		}
	}
}

// retry runs f until it does not conflict with another transaction, or ctx has ended.
func retry(ctx context.Context, f func() error) error {
	interval := backoff.NewExponentialBackOff()
	interval.InitialInterval, interval.MaxInterval = 5*time.Millisecond, time.Second
	var last error
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		if last = f(); last != nil && !mayRetry(last) {
			return struct{}{}, backoff.Permanent(last)
		}
		return struct{}{}, last
	}, backoff.WithBackOff(interval), backoff.WithMaxElapsedTime(maxRetry))
	if err != nil && last != nil { // what it conflicts with says more than that the time is over
		return within(ctx, last)
	}
	return err
}

// maxRetry is for how long a transaction that conflicts is tried again where its context
// has no end.
const maxRetry = 15 * time.Minute

var _ effect.Ledger = (*DB)(nil)
