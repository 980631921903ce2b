package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"iter"

	"github.com/atmostonce/atmostonce/store"
)

// Options are the options of New. The zero value is usable.
type Options struct {
	// Schema is where the store's table is: a schema of PostgreSQL, a database of
	// MySQL. Defaults to that of the connection.
	Schema string
	// Prefix begins the names of the table and of its indexes. Two Temporal clusters
	// that share namespace names on one database need different prefixes. Defaults to
	// "atmostonce_".
	Prefix string
}

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
	db      *sql.DB
	dialect *dialect
	table   string // as its name is written in a statement
	held    held
	sweeper sweeper
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
	return &Store{db: db, dialect: text, table: text.table}, nil
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
	return s.list(ctx, q)
}

// Kind implements [store.Kinded]: it is the dialect.
func (s *Store) Kind() string { return string(s.dialect.name) }

// Clear forgets every record. It is for tests: effects may then happen again.
func (s *Store) Clear(ctx context.Context) error {
	_, err := s.db.ExecContext(ctx, s.dialect.clear)
	return s.failure("clear", err)
}
