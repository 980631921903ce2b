package sqlstore

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"github.com/atmostonce/atmostonce/store"
)

// sqlite says it in the SQL of SQLite. A statement costs no round trip, so that each call
// reads first.
func sqlite() *dialect {
	return &dialect{
		clock: `CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER) * 1000`,
		quote: `"`,
		load: `
SELECT clock.now, ` + columns + ` FROM (SELECT {clock} AS now) clock LEFT JOIN {records} r ON r.digest = ?`,
		insert: `
INSERT INTO {records} (version, state, fence, revision, since, lease_end, deadline, expires, record, digest)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (digest) DO NOTHING`,
		update: `
UPDATE {records} SET version = ?, state = ?, fence = ?, revision = ?, since = ?, lease_end = ?, deadline = ?, expires = ?, record = ?
WHERE digest = ? AND version = ?`,
		touch: `
UPDATE {records} SET version = ?, expires = ? WHERE digest = ? AND version = ?`,
		sweep: []string{`
DELETE FROM {records} WHERE digest IN (SELECT digest FROM {records} WHERE expires <= {clock} ORDER BY expires LIMIT 256)`},
		byState: `
SELECT {clock}, ` + columns + `, r.digest FROM {records} r
WHERE r.state = ? AND (r.since > ? OR r.since = ? AND r.digest > ?) AND (r.expires IS NULL OR r.expires > {clock})
	AND r.digest >= ? AND r.digest <= ?
ORDER BY r.since, r.digest LIMIT 256`,
		byName: `
SELECT {clock}, ` + columns + `, r.digest FROM {records} r
WHERE r.digest > ? AND r.digest >= ? AND r.digest <= ? AND (r.expires IS NULL OR r.expires > {clock}) ORDER BY r.digest LIMIT 256`,
		version: `SELECT version FROM {records} WHERE digest = x'' AND state = 'schema'`,
		clear:   `DELETE FROM {records} WHERE digest <> x''`,
		migrations: []Migration{{Version: 1, Statements: []string{`
CREATE TABLE IF NOT EXISTS {records} (
	digest    BLOB    NOT NULL PRIMARY KEY, -- SHA-256 of the key
	version   INTEGER NOT NULL,             -- another one after each write
	state     TEXT    NOT NULL,
	fence     INTEGER NOT NULL,
	revision  INTEGER NOT NULL,
	since     INTEGER NOT NULL,             -- when it came into its state; all times are microseconds since 1970
	lease_end INTEGER,
	deadline  INTEGER,
	expires   INTEGER,                      -- when it is forgotten; null: never
	record    BLOB    NOT NULL
)`,
			`CREATE INDEX IF NOT EXISTS {open} ON {records} (state, since, digest)`,
			`CREATE INDEX IF NOT EXISTS {expiring} ON {records} (expires)`,
			`INSERT INTO {records} (digest, version, state, fence, revision, since, record) VALUES (x'', 1, 'schema', 0, 0, 0, x'') ON CONFLICT (digest) DO NOTHING`,
		}}},
		probes: slices.Clone(rightsProbes),
		looks: []look{
			{`SELECT sqlite_version()`, sqliteVersion},
			{`PRAGMA synchronous`, func(v []string) error {
				if v[0] != "2" && v[0] != "3" {
					return fmt.Errorf("%w: PRAGMA synchronous is %s: a power failure loses the last records: set it to FULL for each connection", store.ErrUnsafe, v[0])
				}
				return nil
			}},
			{`PRAGMA journal_mode`, func(v []string) error {
				if v[0] == "off" || v[0] == "memory" {
					return fmt.Errorf("%w: PRAGMA journal_mode is %s: a crash may damage records: set it to WAL", store.ErrUnsafe, v[0])
				}
				return nil
			}},
			{`PRAGMA query_only`, func(v []string) error {
				if v[0] != "0" {
					return fmt.Errorf("%w: PRAGMA query_only is on", store.ErrUnsafe)
				}
				return nil
			}},
		},
		code:  sqliteCode,
		codes: sqliteCodes,
	}
}

var sqliteRelease = regexp.MustCompile(`^3\.(\d+)\.(\d+)`)

// sqliteVersion refuses what lacks the SQL, and reports the releases in which two
// connections could damage a database in WAL mode.
func sqliteVersion(v []string) error {
	part := sqliteRelease.FindStringSubmatch(v[0])
	if part == nil {
		return fmt.Errorf("%w: the library says that it is SQLite %q", store.ErrUnverified, v[0])
	}
	minor, _ := strconv.Atoi(part[1])
	patch, _ := strconv.Atoi(part[2])
	switch {
	case minor < 38:
		return fmt.Errorf("%w: SQLite %s is older than 3.38", store.ErrUnsafe, v[0])
	case minor < 51 || minor == 51 && patch < 3:
		return fmt.Errorf("%w: SQLite %s may damage a database in WAL mode that several connections write; 3.51.3 does not", store.ErrUnverified, v[0])
	}
	return nil
}

var sqliteCodes = map[string]kind{
	"locked": undone, "BUSY": undone, "LOCKED": undone,
	"no such table": noTable, "no such column": noTable,
	"readonly": readOnly, "READONLY": readOnly,
	"full": full, "FULL": full,
	"CANTOPEN": noLogin, "unable to open": noLogin,
}

var sqliteError = regexp.MustCompile(`SQLITE_(BUSY|LOCKED|READONLY|FULL|CANTOPEN)|database is (locked)|(no such table|no such column|unable to open)|(readonly) database|disk is (full)`)

// sqliteCode is what the error's text says: drivers agree on SQLite's own words only.
func sqliteCode(err error) string {
	found := sqliteError.FindStringSubmatch(err.Error())
	for i := 1; i < len(found); i++ {
		if found[i] != "" {
			return found[i]
		}
	}
	return ""
}
