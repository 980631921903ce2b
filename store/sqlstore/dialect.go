package sqlstore

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/atmostonce/atmostonce/store"
)

// Dialect is the kind of database that a store is in.
type Dialect string

// The dialects. Any driver of database/sql will do whose errors say the database's
// number or SQLSTATE.
const (
	PostgreSQL Dialect = "postgres" // PostgreSQL 14 or newer
	MySQL      Dialect = "mysql"    // MySQL 8.0 or newer, MariaDB 10.6 or newer; with InnoDB
	SQLite     Dialect = "sqlite"   // SQLite 3.38 or newer; one host
)

// dialect is what a database understands, with the names of a store. In the statements
// {records} stands for the table, {open} and {expiring} for its indexes, and {clock} for the
// database's clock in microseconds.
type dialect struct {
	name    Dialect
	records string // the table

	clock string
	quote string // around names

	load, insert, update, touch string
	// claim, renew and settle are statements that return what they have written, where
	// the database has such; else empty.
	claim, renew, settle string

	sweep   []string // removes some rows past their expiry
	byState string   // a page of a state, oldest first
	byName  string   // a page of all
	clear   string
	version string // of the table

	migrations []Migration
	looks      []look

	probes []string // each needs one right on the table, and changes nothing

	// code is the database's code in an error; empty if it has none.
	code  func(err error) string
	codes map[string]kind
}

// with returns the dialect with the names of a store.
func (d Dialect) with(o Options) (*dialect, error) {
	made := map[Dialect]func() *dialect{PostgreSQL: postgres, MySQL: mysql, SQLite: sqlite}[d]
	if made == nil {
		return nil, fmt.Errorf("store: sql: %w: the dialect %q; it is PostgreSQL, MySQL or SQLite", store.ErrInvalid, string(d))
	}
	if o.Prefix == "" {
		o.Prefix = "atmostonce_"
	}
	if !isName.MatchString(o.Prefix) || o.Schema != "" && !isName.MatchString(o.Schema) {
		return nil, fmt.Errorf("store: sql: %w: Schema and Prefix are at most 40 letters, digits and underscores", store.ErrInvalid)
	}
	if d == SQLite && o.Schema != "" {
		return nil, fmt.Errorf("store: sql: %w: SQLite has no schemas", store.ErrInvalid)
	}
	x := made()
	x.name = d
	x.fill(o)
	return x, nil
}

// newest is the version of the table that this program knows.
func (d *dialect) newest() int { return d.migrations[len(d.migrations)-1].Version }

var isName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,39}$`)

// fill writes the names into the statements.
func (d *dialect) fill(o Options) {
	quoted := func(name string) string { return d.quote + name + d.quote }
	schema := ""
	if o.Schema != "" {
		schema = quoted(o.Schema) + "."
	}
	d.records = schema + quoted(o.Prefix+"records")
	open, expiring := quoted(o.Prefix+"records_open"), quoted(o.Prefix+"records_expires")
	names := strings.NewReplacer("{records}", d.records, "{schema}", schema, "{open}", open, "{expiring}", expiring, "{clock}", d.clock)
	for _, s := range []*string{&d.load, &d.insert, &d.update, &d.touch, &d.claim, &d.renew, &d.settle, &d.byState, &d.byName, &d.clear, &d.version} {
		*s = names.Replace(*s)
	}
	for i := range d.sweep {
		d.sweep[i] = names.Replace(d.sweep[i])
	}
	for i := range d.probes {
		d.probes[i] = names.Replace(d.probes[i])
	}
	for i := range d.looks {
		d.looks[i].query = names.Replace(d.looks[i].query)
	}
	for i := range d.migrations {
		for j, s := range d.migrations[i].Statements {
			d.migrations[i].Statements[j] = names.Replace(s)
		}
	}
}

// Migration is one step of the table's form.
type Migration struct {
	// Version is that of the table after it, from 1 on.
	Version int
	// Statements are to be run in their order, by a role that may create tables. They
	// may be run again.
	Statements []string
}

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

// kind is what an error of the database comes to.
type kind int

const (
	other     kind = iota
	duplicate      // there is such a row
	undone         // a deadlock or the like: nothing was applied, and a repetition may be
	noTable
	denied
	readOnly
	full
	noLogin
	busy // a timeout of the database
)

func (d *dialect) kindOf(err error) kind {
	if err == nil {
		return other
	}
	return d.codes[d.code(err)]
}

func (d *dialect) isDuplicate(err error) bool { return d.kindOf(err) == duplicate }
func (d *dialect) isUndone(err error) bool    { return d.kindOf(err) == undone }
