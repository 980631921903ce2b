package txn

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
)

// schemaVersion is the version of the tables that this package knows.
const schemaVersion = 1

// Migration makes the tables of one version from those of the version before.
type Migration struct {
	Version int
	// Up and Down are statements, to be run one by one and, where the database can, in one
	// transaction. Up changes nothing where it was run before. Down loses what is known of effects.
	Up, Down []string
}

// Migrations returns what makes the tables, in order, for a runner of your own; of the
// options, Schema and Prefix count. The role that runs them must own the tables. The role of a
// program that uses them needs SELECT, INSERT and UPDATE, and DELETE for Prune.
func Migrations(d Dialect, o Options) ([]Migration, error) {
	t, err := o.tables(d)
	if err != nil {
		return nil, err
	}
	id, system, name, blob, text := "replace(gen_random_uuid()::text, '-', '')", "(SELECT system_identifier::text FROM pg_control_system())", "current_database()", "bytea", "text"
	inline, rest, unlessThere := "", "", " ON CONFLICT (one) DO NOTHING"
	switch d {
	case PostgreSQL:
	case MySQL:
		id, system, name, blob, text = "replace(uuid(), '-', '')", "''", "database()", "longblob", "mediumtext"
		inline, unlessThere = ",\n\tINDEX done_at (done_at)", " ON DUPLICATE KEY UPDATE one = 1"
		rest = " ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin"
	case SQLite:
		id, system, name, blob = "lower(hex(randomblob(16)))", "''", "(SELECT file FROM pragma_database_list WHERE name = 'main')", "blob"
	default:
		return nil, fmt.Errorf("txn: no such dialect: %v", d)
	}
	up := []string{
		fmt.Sprintf(`CREATE TABLE IF NOT EXISTS %s (
	effect_key varchar(64) NOT NULL,
	generation bigint NOT NULL,
	owner varchar(640) NOT NULL,
	match_digest varchar(64) NOT NULL,
	outcome %s,
	encoding %s,
	barred %s NOT NULL,
	done_at bigint,
	PRIMARY KEY (effect_key, generation)%s
)%s`, t.effects, blob, blob, text, inline, rest),
		fmt.Sprintf(`CREATE TABLE IF NOT EXISTS %s (
	one smallint NOT NULL PRIMARY KEY CHECK (one = 1),
	schema_version integer NOT NULL,
	ledger_id varchar(64) NOT NULL,
	database_system varchar(64) NOT NULL,
	database_name varchar(4096) NOT NULL,
	pruned_to bigint NOT NULL
)%s`, t.ledger, rest),
		fmt.Sprintf(`INSERT INTO %s (one, schema_version, ledger_id, database_system, database_name, pruned_to) VALUES (1, %d, %s, %s, coalesce(%s, ''), 0)`,
			t.ledger, schemaVersion, id, system, name) + unlessThere,
	}
	if d != MySQL {
		up = slices.Insert(up, 1, o.createIndex(d))
	}
	down := []string{"DROP TABLE " + t.ledger, "DROP TABLE " + t.effects}
	return []Migration{{Version: schemaVersion, Up: up, Down: down}}, nil
}

// createIndex makes the index for Prune. SQLite wants the schema with the index and not with
// the table.
func (o Options) createIndex(d Dialect) string {
	full, _ := o.tables(d) // was checked
	bare, _ := Options{Prefix: o.Prefix}.tables(d)
	index, table := bare.effects, full.effects
	if d == SQLite {
		index, table = table, index
	}
	return fmt.Sprintf(`CREATE INDEX IF NOT EXISTS %s_done_at" ON %s (done_at)`, strings.TrimSuffix(index, `"`), table)
}

// apply makes the tables. Somebody else may do it at the same time: then it fails, and
// they are there.
func apply(ctx context.Context, db *sql.DB, d Dialect, o Options) error {
	migrations, err := Migrations(d, o)
	if err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after Commit there is nothing to roll back
	for _, m := range migrations {
		for _, statement := range m.Up {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return fmt.Errorf("%w, in: %s", err, statement)
			}
		}
	}
	return tx.Commit()
}
