package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/atmostonce/atmostonce/store"
)

// inspector looks whether a database can be relied on.
type inspector struct{ table }

// check is [Store.Check].
func (x inspector) check(ctx context.Context) error {
	var unverified error
	for _, l := range x.dialect.looks {
		err := x.ask(ctx, l)
		if err != nil && !errors.Is(err, store.ErrUnverified) {
			return x.failure("check", err)
		}
		unverified = errors.Join(unverified, err)
	}
	newest := x.dialect.newest()
	version, err := x.schemaVersion(ctx)
	switch {
	case err != nil:
		return x.failure("check", err)
	case version > newest:
		return fmt.Errorf("store: sql: check: %w: the table %s is of version %d, and this program knows %d: use a newer one", store.ErrVersion, x.dialect.records, version, newest)
	case version < newest:
		return fmt.Errorf("store: sql: check: %w: the table %s is of version %d, and this program needs %d: run Migrations, or Store.Migrate", store.ErrUnsafe, x.dialect.records, version, newest)
	}
	for _, probe := range x.dialect.probes {
		if _, err := x.db.ExecContext(ctx, probe); err != nil {
			return x.failure("check", err)
		}
	}
	if _, err := x.load(ctx, "check"); err != nil {
		return x.failure("check", err)
	}
	return x.failure("check", unverified)
}

// ask asks one question.
func (x inspector) ask(ctx context.Context, l look) error {
	rows, err := x.db.QueryContext(ctx, l.query)
	if err != nil {
		return x.unseen(err)
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
func (x inspector) unseen(err error) error {
	if x.dialect.kindOf(err) == denied {
		return fmt.Errorf("%w: %w", store.ErrUnverified, err)
	}
	return err
}
