package databases_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/internal/effect"
	"github.com/atmostonce/atmostonce/txn"
)

func TestTxnOpen_ChangesNothingUnlessAsked(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b *business) {
		_, err := txn.Open(t.Context(), b.db, txn.Options{})
		require.ErrorIs(t, err, txn.ErrNoTable)
		_, err = txn.Open(t.Context(), b.db, txn.Options{})
		require.ErrorIs(t, err, txn.ErrNoTable, "still")
		d := b.ledger(t, txn.Options{})
		require.Len(t, d.ID(), 32)
		again := b.ledgerOf(t, b.again(t), txn.Options{})
		require.Equal(t, d.ID(), again.ID())
		require.Zero(t, b.count(t, "SELECT count(*) FROM atmostonce_effects"), "what was tried was rolled back")
		other := b.ledger(t, txn.Options{Prefix: "other"})
		require.NotEqual(t, d.ID(), other.ID())
		for _, o := range []txn.Options{{Prefix: `x"; --`}, {Schema: "x`y"}, {Prefix: "a\x00"}} {
			_, err = txn.Open(t.Context(), b.db, o)
			require.ErrorContains(t, err, "cannot be names")
		}
	})
}

func TestTxnOpen_AppliedByManyAtOnce(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b *business) {
		ids := make([]string, 8)
		together(len(ids), func(i int) {
			d, err := txn.Open(t.Context(), b.db, txn.Options{Apply: true})
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = d.ID()
		})
		for _, id := range ids {
			require.Equal(t, ids[0], id)
		}
	})
}

func TestTxnOpen_MigrationsMakeWhatOpenTakes(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b *business) {
		b.accounts(t)
		migrations, err := txn.Migrations(b.dialect, txn.Options{})
		require.NoError(t, err)
		for range 2 {
			for _, m := range migrations {
				for _, s := range m.Up {
					b.exec(t, s)
				}
			}
			d := b.ledgerOf(t, b.db, txn.Options{})
			_, err = b.do(t.Context(), d, callOf(d.ID()), d.ID())
			require.NoError(t, err)
			for i := len(migrations) - 1; i >= 0; i-- {
				for _, s := range migrations[i].Down {
					b.exec(t, s)
				}
			}
			_, err = txn.Open(t.Context(), b.db, txn.Options{})
			require.ErrorIs(t, err, txn.ErrNoTable)
		}
		_, err = txn.Migrations(0, txn.Options{})
		require.Error(t, err)
	})
}

func TestTxnOpen_RefusesOtherSchemas(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b *business) {
		b.ledger(t, txn.Options{})
		for version, want := range map[int]error{0: txn.ErrOlderSchema, 2: txn.ErrNewerSchema} {
			b.exec(t, "UPDATE atmostonce_ledger SET schema_version = ?", version)
			for _, apply := range []bool{false, true} {
				_, err := txn.Open(t.Context(), b.db, txn.Options{Apply: apply})
				require.ErrorIs(t, err, want)
			}
		}
		b.exec(t, "DELETE FROM atmostonce_ledger")
		_, err := txn.Open(t.Context(), b.db, txn.Options{})
		require.ErrorIs(t, err, txn.ErrNoTable, "half of the tables")
	})
}

// Without its primary key the table would let an effect happen twice.
func TestTxnOpen_RefusesATableWithoutItsKey(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b *business) {
		b.accounts(t)
		d := b.ledger(t, txn.Options{})
		b.withoutKey(t)
		_, err := txn.Open(t.Context(), b.db, txn.Options{})
		require.ErrorIs(t, err, txn.ErrUnfit)
		require.Zero(t, b.count(t, "SELECT count(*) FROM atmostonce_effects"))
		if b.dialect == txn.MySQL { // which notices nothing later: what Open tries is all there is
			return
		}
		_, err = b.do(t.Context(), d, callOf("7"), "7")
		require.Error(t, err, "lost after Open")
		require.Zero(t, b.effects(t, "7"))
	})
}

// withoutKey makes the table of markers as it is, without its primary key.
func (b *business) withoutKey(t *testing.T) {
	t.Helper()
	if b.dialect != txn.SQLite {
		name := map[txn.Dialect]string{txn.PostgreSQL: "CONSTRAINT atmostonce_effects_pkey", txn.MySQL: "PRIMARY KEY"}[b.dialect]
		b.exec(t, "ALTER TABLE atmostonce_effects DROP "+name)
		return
	}
	b.exec(t, "CREATE TABLE keyless AS SELECT * FROM atmostonce_effects")
	b.exec(t, "DROP TABLE atmostonce_effects")
	b.exec(t, "ALTER TABLE keyless RENAME TO atmostonce_effects")
}

// Somebody copies the tables, or the whole database.
func TestTxnOpen_RefusesACopy(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b *business) {
		b.accounts(t)
		d := b.ledger(t, txn.Options{})
		g := callOf("7")
		_, err := b.do(t.Context(), d, g, "7")
		require.NoError(t, err)
		for _, made := range []string{"database_name = 'somewhere else'", "database_system = '7'"} {
			b.exec(t, "UPDATE atmostonce_ledger SET "+made)
			_, err = txn.Open(t.Context(), b.db, txn.Options{Apply: true})
			require.ErrorIs(t, err, txn.ErrOtherDatabase, made)
			adopted := b.ledgerOf(t, b.db, txn.Options{Adopt: true})
			require.Equal(t, d.ID(), adopted.ID(), "it goes on")
			_, err = adopted.Decide(t.Context(), g.run())
			require.NoError(t, err)
			b.ledgerOf(t, b.db, txn.Options{})
		}
	})
}

func TestTxnOpen_KnowsACopyOfAFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := sqliteAt(filepath.Join(dir, "business.db"))
	b.db = b.again(t)
	b.ledger(t, txn.Options{})
	b.exec(t, "PRAGMA wal_checkpoint(truncate)")
	data, err := os.ReadFile(filepath.Join(dir, "business.db"))
	require.NoError(t, err)
	moved, copied := filepath.Join(t.TempDir(), "business.db"), filepath.Join(dir, "copy.db")
	for _, path := range []string{moved, copied} {
		require.NoError(t, os.WriteFile(path, data, 0o600))
	}
	b.ledgerOf(t, sqliteAt(moved).again(t), txn.Options{})
	_, err = txn.Open(t.Context(), sqliteAt(copied).again(t), txn.Options{})
	require.ErrorIs(t, err, txn.ErrOtherDatabase)
}

func TestTxnOpen_ReadOnly(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "business.db")
	b := sqliteAt(path)
	b.db = b.again(t)
	b.ledger(t, txn.Options{})
	_, err := txn.Open(t.Context(), openDB(t, "sqlite", "file:"+path+"?mode=ro"), txn.Options{})
	require.ErrorIs(t, err, txn.ErrUnfit)
}

func TestTxnOpen_ADatabaseThatIsNotThere(t *testing.T) {
	t.Parallel()
	for driver, dsn := range map[string]string{
		"pgx": "postgres://nobody@127.0.0.1:1/none", "mysql": "nobody@tcp(127.0.0.1:1)/none",
		"sqlite": "file:" + filepath.Join(t.TempDir(), "none", "none.db"),
	} {
		_, err := txn.Open(t.Context(), openDB(t, driver, dsn), txn.Options{})
		require.Error(t, err, driver)
	}
}

// A ledger in a schema of its own, with another prefix.
func TestTxnOpen_SchemaAndPrefix(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b *business) {
		b.accounts(t)
		o := txn.Options{Schema: "Büro 7", Prefix: "Once "}
		switch b.dialect {
		case txn.PostgreSQL:
			b.exec(t, `CREATE SCHEMA "Büro 7"`)
		case txn.MySQL:
			o.Schema = ""
			require.NoError(t, b.db.QueryRowContext(t.Context(), "SELECT database()").Scan(&o.Schema))
		case txn.SQLite:
			o.Schema = "main"
		}
		d := b.ledger(t, o)
		_, err := b.do(t.Context(), d, callOf("7"), "7")
		require.NoError(t, err)
		_, err = d.Decide(t.Context(), callOf("8").run())
		require.ErrorIs(t, err, effect.ErrNotDone)
		_, err = d.Prune(t.Context(), 1<<40)
		require.NoError(t, err)
		_, err = txn.Open(t.Context(), b.db, txn.Options{})
		require.ErrorIs(t, err, txn.ErrNoTable, "elsewhere there is none")
	})
}

// Another transaction has the table locked while a program starts.
func TestTxnOpen_EndsWithItsContext(t *testing.T) {
	t.Parallel()
	b := newSQLiteBusiness(t)
	b.db = b.again(t)
	b.ledger(t, txn.Options{})
	tx, err := b.again(t).BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer tx.Rollback() //nolint:errcheck // the test is over
	_, err = tx.ExecContext(t.Context(), "UPDATE atmostonce_ledger SET one = 1")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 300e6)
	defer cancel()
	_, err = txn.Open(ctx, b.db, txn.Options{})
	require.ErrorIs(t, err, context.DeadlineExceeded)
}
