package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/atmostonce/atmostonce/store"
)

// migrator brings the table into its form.
type migrator struct{ table }

// migrate is [Store.Migrate].
func (x migrator) migrate(ctx context.Context) error {
	version, err := x.schemaVersion(ctx)
	if err != nil && x.dialect.kindOf(err) != noTable {
		return x.failure("migrate", err)
	}
	if version > x.dialect.newest() {
		return fmt.Errorf("store: sql: migrate: %w: the table %s is of version %d, and this program knows %d", store.ErrVersion, x.dialect.records, version, x.dialect.newest())
	}
	for _, m := range x.dialect.migrations {
		if m.Version <= version {
			continue
		}
		for _, statement := range m.Statements {
			if err := x.define(ctx, statement); err != nil {
				return x.failure("migrate", err)
			}
		}
	}
	return nil
}

// define runs a statement that defines something. Of two that create the same at once, one
// may fail; a repetition finds it there.
func (x migrator) define(ctx context.Context, statement string) error {
	return x.retry(ctx, func() error {
		_, err := x.db.ExecContext(ctx, statement)
		return err
	})
}

// schemaVersion is what the table's row without a digest says: 0 without such a row.
func (t table) schemaVersion(ctx context.Context) (version int, err error) {
	err = t.db.QueryRowContext(ctx, t.dialect.version).Scan(&version)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return version, err
}
