package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"iter"

	"github.com/atmostonce/atmostonce/store"
)

// Store keeps records in a table of a database, a row for each key. Every write is one
// statement that takes effect only if the row is as the store has read it, so that there
// is no transaction, no lock that outlasts a statement, and no state of a session: any
// connection of the pool will do for any statement, also behind a pooler. It asks
// only the database's clock.
//
// A record is as durable as the database: the package's documentation says which
// settings buy what, and [Store.Check] looks at them. The table is not made by the
// way: see [Store.Migrate].
//
// A call ends with its context. Calls that wait for another do so by polling.
type Store struct {
	table
	held    held
	sweeper *sweeper
}

var (
	_ store.Store   = (*Store)(nil)
	_ store.Checker = (*Store)(nil)
	_ store.Kinded  = (*Store)(nil)
)

// New returns a store in db, which it does not contact yet. The pool stays the caller's
// to close; one connection is enough. It refuses with ErrInvalid a nil pool, a dialect
// that it does not know, and names that are none.
func New(db *sql.DB, d Dialect, o Options) (*Store, error) {
	if db == nil {
		return nil, fmt.Errorf("store: sql: %w: nil pool", store.ErrInvalid)
	}
	text, err := d.with(o)
	if err != nil {
		return nil, err
	}
	t := table{db: db, dialect: text}
	return &Store{table: t, sweeper: &sweeper{table: t}}, nil
}

// Acquire implements [store.Store].
func (s *Store) Acquire(ctx context.Context, b store.Bid) (store.Record, error) {
	t := store.Acquiring(b)
	if err := t.Validate(); err != nil {
		return store.Record{}, err
	}
	if s.dialect.claim == "" {
		return s.run(ctx, "acquire", t)
	}
	return s.claim(ctx, b, t)
}

// Renew implements [store.Store].
func (s *Store) Renew(ctx context.Context, b store.Bid) (store.Record, error) {
	t := store.Renewing(b)
	if err := t.Validate(); err != nil {
		return store.Record{}, err
	}
	if r, ok, err := s.renewHeld(ctx, b); ok || err != nil {
		return r, err
	}
	return s.run(ctx, "renew", t)
}

// Settle implements [store.Store].
func (s *Store) Settle(ctx context.Context, b store.Bid, o store.Outcome) (store.Record, error) {
	t := store.Settling(b, o)
	if err := t.Validate(); err != nil {
		return store.Record{}, err
	}
	if r, ok, err := s.settleHeld(ctx, b, t); ok || err != nil {
		return r, err
	}
	return s.run(ctx, "settle", t)
}

// Release implements [store.Store].
func (s *Store) Release(ctx context.Context, b store.Bid) (store.Record, error) {
	return s.run(ctx, "release", store.Releasing(b))
}

// Takeover implements [store.Store].
func (s *Store) Takeover(ctx context.Context, b store.Bid, from store.Record) (store.Record, error) {
	return s.run(ctx, "takeover", store.TakingOver(b, from))
}

// Resolve implements [store.Store].
func (s *Store) Resolve(ctx context.Context, key string, from store.Record, r store.Resolution) (store.Record, error) {
	return s.run(ctx, "resolve", store.Resolving(key, from, r))
}

// Load implements [store.Store].
func (s *Store) Load(ctx context.Context, key string) (store.Record, error) {
	return s.run(ctx, "load", store.Loading(key))
}

// List implements [store.Store]. It reads a page per statement, and holds no connection
// while the caller looks at one. What is running, in doubt or pending, and what begins
// with Query.Digest, is found by an index.
func (s *Store) List(ctx context.Context, q store.Query) iter.Seq2[store.Record, error] {
	return lister{s.table}.list(ctx, q)
}

// Kind implements [store.Kinded]: it is the dialect.
func (s *Store) Kind() string { return string(s.dialect.name) }

// Migrations returns the steps to the form that this version of the package needs, for
// a runner of your own. The table keeps its version in a row of its own.
func (s *Store) Migrations() []Migration { return s.dialect.migrations }

// Migrate runs those of the migrations that the database lacks. It needs a role that may
// create tables; calls do not.
func (s *Store) Migrate(ctx context.Context) error { return migrator{s.table}.migrate(ctx) }

// Check implements [store.Checker]. It refuses with ErrUnsafe a database that loses what it
// has acknowledged, is read-only, or is too old, and one without the store's table; with
// ErrDenied a role that lacks a right; with ErrVersion a table of a newer program.
// It answers ErrUnverified where a fail-over would lose records, and where it
// is not allowed to look. Each says what to do.
func (s *Store) Check(ctx context.Context) error { return inspector{s.table}.check(ctx) }

// Sweep removes rows of records past their expiry, some 256 at most, and returns how many
// it removed. Calls do so by themselves, as often as new records come; it is for a
// database from which many are to go. Rows that others work on are left out.
func (s *Store) Sweep(ctx context.Context) (removed int, err error) { return s.sweeper.sweep(ctx) }

// Clear forgets every record. It is for tests: effects may then happen again.
func (s *Store) Clear(ctx context.Context) error {
	_, err := s.db.ExecContext(ctx, s.dialect.clear)
	return s.failure("clear", err)
}
