package txn

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Dialect is a kind of database.
type Dialect uint8

// The kinds of databases.
const (
	PostgreSQL Dialect = iota + 1
	MySQL              // and MariaDB
	SQLite
)

// String returns the dialect's name.
func (d Dialect) String() string {
	names := [...]string{"", "PostgreSQL", "MySQL", "SQLite"}
	if int(d) >= len(names) {
		return fmt.Sprintf("Dialect(%d)", d)
	}
	return names[d]
}

// dialectOf asks the database what it is.
func dialectOf(ctx context.Context, db *sql.DB) (Dialect, error) {
	var version string
	err := db.QueryRowContext(ctx, "SELECT version()").Scan(&version)
	if err == nil {
		if strings.HasPrefix(version, "PostgreSQL") {
			return PostgreSQL, nil
		}
		return MySQL, nil
	}
	if db.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&version) == nil {
		return SQLite, nil
	}
	return 0, err
}

// tables are the names of the tables, quoted.
type tables struct{ effects, ledger string }

func (o Options) tables(d Dialect) (tables, error) {
	quote := `"`
	if d == MySQL {
		quote = "`"
	}
	prefix := o.Prefix
	if prefix == "" {
		prefix = "atmostonce_"
	}
	if strings.ContainsAny(prefix+o.Schema, "\x00\"`") || len(prefix) > 40 || len(o.Schema) > 63 {
		return tables{}, fmt.Errorf("txn: Schema %q and Prefix %q cannot be names: no quotes, at most 63 and 40 bytes", o.Schema, o.Prefix)
	}
	name := func(table string) string {
		table = quote + prefix + table + quote
		if o.Schema != "" {
			table = quote + o.Schema + quote + "." + table
		}
		return table
	}
	return tables{name("effects"), name("ledger")}, nil
}

// statements are what is said to the database.
type statements struct {
	Dialect

	// where asks for the system and the name of the database.
	where string
	// ledger asks for the row about the table; adopt writes where it is into it.
	ledger, adopt string
	// mark writes a marker. On MySQL, which has no condition there, claim does where
	// mark finds a row.
	mark, claim string
	// bar bars an owner.
	bar, read string
	// end makes the row of an effect of which nothing can be said any more: it has no owner.
	end string
	// raise raises the horizon by what keep is, in microseconds; prune removes some of what is beyond it.
	raise, prune string
}

// clocks are microseconds since 1970, by the clock of the database and not of its
// transaction.
var clocks = map[Dialect]string{
	PostgreSQL: "(extract(epoch from clock_timestamp()) * 1000000)::bigint",
	MySQL:      "timestampdiff(MICROSECOND, '1970-01-01', utc_timestamp(6))",
	SQLite:     "cast((julianday('now') - 2440587.5) * 86400000000 as integer)",
}

func (d Dialect) statements(t tables) statements {
	s := statements{Dialect: d}
	replace := strings.NewReplacer("{effects}", t.effects, "{ledger}", t.ledger, "{now}", clocks[d],
		"{instr}", map[Dialect]string{PostgreSQL: "strpos", MySQL: "instr", SQLite: "instr"}[d])
	write := func(query string) string { return d.number(replace.Replace(query)) }

	const row = " WHERE effect_key = ? AND generation = ?"
	s.ledger = write("SELECT schema_version, ledger_id, database_system, database_name, pruned_to FROM {ledger} WHERE one = 1")
	s.adopt = write("UPDATE {ledger} SET database_system = ?, database_name = ? WHERE one = 1")
	s.read = write("SELECT done_at, outcome, encoding, match_digest, owner, (SELECT pruned_to FROM {ledger} WHERE one = 1) FROM {ledger} LEFT JOIN {effects} ON effect_key = ? AND generation = ? WHERE one = 1")
	s.raise = write("UPDATE {ledger} SET pruned_to = {now} - ? WHERE one = 1 AND pruned_to < {now} - ?")

	insert := "INSERT INTO {effects} AS e (effect_key, generation, owner, match_digest, outcome, encoding, barred, done_at) "
	open := "e.done_at IS NULL AND {instr}(e.barred, ?) = 0 AND {instr}(e.barred, ?) = 0"
	switch d {
	case MySQL:
		insert = strings.Replace(insert, " AS e", "", 1)
		open = strings.ReplaceAll(open, "e.", "")
		s.where = "SELECT '', database()"
		s.mark = write(insert + "VALUES (?, ?, ?, ?, ?, ?, ' ', {now})")
		s.claim = write("UPDATE {effects} SET owner = ?, match_digest = ?, outcome = ?, encoding = ?, done_at = {now}" + row + " AND " + open)
		s.bar = write(insert + "VALUES (?, ?, '', '', NULL, NULL, ?, NULL) " +
			"ON DUPLICATE KEY UPDATE barred = if(done_at IS NULL AND {instr}(barred, ?) = 0, concat(barred, ?), barred)")
		s.end = write(insert + "VALUES (?, ?, '', '', NULL, NULL, ' ', {now}) ON DUPLICATE KEY UPDATE done_at = coalesce(done_at, {now})")
		s.prune = write("DELETE FROM {effects} WHERE done_at < (SELECT pruned_to FROM {ledger} WHERE one = 1) LIMIT ?")
	default:
		s.where = "SELECT (SELECT system_identifier::text FROM pg_control_system()), current_database()"
		if d == SQLite {
			s.where = "SELECT '', file FROM pragma_database_list WHERE name = 'main'"
		}
		s.mark = write(insert + "VALUES (?, ?, ?, ?, ?, ?, ' ', {now}) ON CONFLICT (effect_key, generation) DO UPDATE SET " +
			"owner = excluded.owner, match_digest = excluded.match_digest, outcome = excluded.outcome, encoding = excluded.encoding, done_at = {now} WHERE " + open)
		s.bar = write(insert + "VALUES (?, ?, '', '', NULL, NULL, ?, NULL) ON CONFLICT (effect_key, generation) DO UPDATE SET " +
			"barred = e.barred || ? WHERE e.done_at IS NULL AND {instr}(e.barred, ?) = 0")
		s.end = write(insert + "VALUES (?, ?, '', '', NULL, NULL, ' ', {now}) ON CONFLICT (effect_key, generation) DO UPDATE SET done_at = {now} WHERE e.done_at IS NULL")
		s.prune = write("DELETE FROM {effects} WHERE (effect_key, generation) IN (SELECT effect_key, generation FROM {effects} " +
			"WHERE done_at < (SELECT pruned_to FROM {ledger} WHERE one = 1) LIMIT ?)")
	}
	return s
}

// number numbers the parameters where the dialect wants it.
func (d Dialect) number(query string) string {
	if d != PostgreSQL {
		return query
	}
	var b strings.Builder
	for i, part := range strings.Split(query, "?") {
		if i > 0 {
			b.WriteString("$" + strconv.Itoa(i))
		}
		b.WriteString(part)
	}
	return b.String()
}

// executor is a transaction or a database.
type executor interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// writeMarker writes m in the transaction x. It reports false where the effect took
// place before, or m's owner is barred.
func (s *statements) writeMarker(ctx context.Context, x executor, m marker) (bool, error) {
	owner := m.owner()
	args := []any{m.key, m.generation, owner, m.match, m.outcome.Data, []byte(m.outcome.Context)}
	barred := []any{barring(m.call), barring(owner)}
	if s.Dialect != MySQL {
		return changed(x.ExecContext(ctx, s.mark, append(args, barred...)...))
	}
	if err := inTransaction(ctx, x); err != nil {
		return false, err
	}
	ok, err := changed(x.ExecContext(ctx, s.mark, args...))
	if troubleOf(err) != duplicateKey {
		return ok, err
	}
	return changed(x.ExecContext(ctx, s.claim, append(append(args[2:], args[:2]...), barred...)...))
}

// inTransaction returns ErrEnded where MySQL has no transaction any more: after a deadlock,
// or a statement that commits, it goes on without one, and says nothing. It refuses this
// statement within a transaction; outside of one it asks for what is so anyway.
func inTransaction(ctx context.Context, x executor) error {
	_, err := x.ExecContext(ctx, "SET TRANSACTION READ WRITE")
	switch {
	case err == nil:
		return fmt.Errorf("%w; or it went on after a deadlock, which rolled back what was before it", ErrEnded)
	case troubleOf(err) == underWay:
		return nil
	}
	return err
}

// barOwner bars an owner, or all of a call's.
func (s *statements) barOwner(ctx context.Context, x executor, key string, generation int64, owner string) error {
	this := barring(owner)
	args := []any{key, generation, this, this[1:], this}
	if s.Dialect == MySQL {
		args[3], args[4] = this, this[1:]
	}
	_, err := x.ExecContext(ctx, s.bar, args...)
	return err
}

// barring is what is in the list of who is barred.
func barring(owner string) string { return " " + owner + " " }

func changed(r sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := r.RowsAffected()
	return n > 0, err
}

// found is the row of an effect, if there is one, and the table's horizon.
type found struct {
	done     bool
	outcome  []byte
	encoding string
	match    string
	owner    string // "" where nothing can be said
	pruned   int64
}

func (s *statements) readRow(ctx context.Context, db *sql.DB, key string, generation int64) (f found, err error) {
	var done sql.NullInt64
	var match, owner sql.NullString
	var encoding []byte
	var pruned int64
	err = db.QueryRowContext(ctx, s.read, key, generation).Scan(&done, &f.outcome, &encoding, &match, &owner, &pruned)
	if errors.Is(err, sql.ErrNoRows) {
		return f, fmt.Errorf("%w: the row about them is gone", ErrUnfit)
	}
	f.done, f.encoding, f.match, f.owner, f.pruned = done.Valid, string(encoding), match.String, owner.String, pruned
	return f, err
}
