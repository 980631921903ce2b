package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/atmostonce/atmostonce/store"
)

// Migration is one step of the table's form.
type Migration struct {
	// Version is that of the table after it, from 1 on.
	Version int
	// Statements are to be run in their order, by a role that may create tables. They
	// may be run again.
	Statements []string
}

// Migrations returns the steps to the form that this version of the package needs, for
// a runner of your own. The table keeps its version in a row of its own.
func (s *Store) Migrations() []Migration { return s.dialect.migrations }

// Migrate runs those of the migrations that the database lacks. It needs a role that may
// create tables; calls do not.
func (s *Store) Migrate(ctx context.Context) error {
	version, err := s.schemaVersion(ctx)
	if err != nil && s.dialect.kindOf(err) != noTable {
		return s.failure("migrate", err)
	}
	if version > s.newest() {
		return fmt.Errorf("store: sql: migrate: %w: the table %s is of version %d, and this program knows %d", store.ErrVersion, s.table, version, s.newest())
	}
	for _, m := range s.dialect.migrations {
		if m.Version <= version {
			continue
		}
		for _, statement := range m.Statements {
			if err := s.define(ctx, statement); err != nil {
				return s.failure("migrate", err)
			}
		}
	}
	return nil
}

// define runs a statement that defines something. Of two that create the same at once, one
// may fail; a repetition finds it there.
func (s *Store) define(ctx context.Context, statement string) error {
	return s.retry(ctx, func() error {
		_, err := s.db.ExecContext(ctx, statement)
		return err
	})
}

func (s *Store) newest() int {
	return s.dialect.migrations[len(s.dialect.migrations)-1].Version
}

// schemaVersion is what the table's row without a digest says: 0 without such a row.
func (s *Store) schemaVersion(ctx context.Context) (version int, err error) {
	err = s.db.QueryRowContext(ctx, s.dialect.version).Scan(&version)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return version, err
}
