package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/atmostonce/atmostonce/store"
)

// look is a question to the server, of one row, and what its answer means.
type look struct {
	query string
	judge func(values []string) error
}

// rightsProbes change nothing, and each fails without a right that calls need.
var rightsProbes = []string{
	`SELECT version FROM {records} WHERE 1 = 0`,
	`INSERT INTO {records} (digest, version, state, fence, revision, since, record) SELECT digest, version, state, fence, revision, since, record FROM {records} WHERE 1 = 0`,
	`UPDATE {records} SET version = 0 WHERE 1 = 0`,
	`DELETE FROM {records} WHERE 1 = 0`,
}

// Check implements [store.Checker]. It refuses with ErrUnsafe a database that loses what it
// has acknowledged, is read-only, or is too old, and one without the store's table; with
// ErrDenied a role that lacks a right; with ErrVersion a table of a newer program.
// It answers ErrUnverified where a fail-over would lose records, and where it
// is not allowed to look. Each says what to do.
func (s *Store) Check(ctx context.Context) error {
	var unverified error
	for _, l := range s.dialect.looks {
		err := s.ask(ctx, l)
		if err != nil && !errors.Is(err, store.ErrUnverified) {
			return s.failure("check", err)
		}
		unverified = errors.Join(unverified, err)
	}
	version, err := s.schemaVersion(ctx)
	switch {
	case err != nil:
		return s.failure("check", err)
	case version > s.newest():
		return fmt.Errorf("store: sql: check: %w: the table %s is of version %d, and this program knows %d: use a newer one", store.ErrVersion, s.table, version, s.newest())
	case version < s.newest():
		return fmt.Errorf("store: sql: check: %w: the table %s is of version %d, and this program needs %d: run Migrations, or Store.Migrate", store.ErrUnsafe, s.table, version, s.newest())
	}
	for _, probe := range s.dialect.probes {
		if _, err := s.db.ExecContext(ctx, probe); err != nil {
			return s.failure("check", err)
		}
	}
	if _, err := s.Load(ctx, "check"); err != nil {
		return err
	}
	return s.failure("check", unverified)
}

// ask asks one question.
func (s *Store) ask(ctx context.Context, l look) error {
	rows, err := s.db.QueryContext(ctx, l.query)
	if err != nil {
		return s.unseen(err)
	}
	defer func() { _ = rows.Close() }()
	names, err := rows.Columns()
	if err != nil {
		return err
	}
	values, into := make([]sql.NullString, len(names)), make([]any, len(names))
	for i := range values {
		into[i] = &values[i]
	}
	if !rows.Next() {
		return errors.Join(rows.Err(), fmt.Errorf("%w: no answer to: %s", store.ErrUnverified, l.query))
	}
	if err := rows.Scan(into...); err != nil {
		return err
	}
	said := make([]string, len(values))
	for i, v := range values {
		said[i] = v.String
	}
	return l.judge(said)
}

// unseen turns a refusal to look into ErrUnverified.
func (s *Store) unseen(err error) error {
	if s.dialect.kindOf(err) == denied {
		return fmt.Errorf("%w: %w", store.ErrUnverified, err)
	}
	return err
}
