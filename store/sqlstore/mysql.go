package sqlstore

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/atmostonce/atmostonce/store"
)

// mysql says it in the SQL of MySQL and MariaDB, which return nothing of what an update has
// written: each call reads first. UTC_TIMESTAMP knows no time zone of the session.
func mysql() *dialect {
	return &dialect{
		clock: `TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))`,
		quote: "`",
		load: `
SELECT clock.now, ` + columns + ` FROM (SELECT {clock} AS now) clock LEFT JOIN {records} r ON r.digest = ?`,
		insert: `
INSERT INTO {records} (version, state, fence, revision, since, lease_end, deadline, expires, record, digest)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		update: `
UPDATE {records} SET version = ?, state = ?, fence = ?, revision = ?, since = ?, lease_end = ?, deadline = ?, expires = ?, record = ?
WHERE digest = ? AND version = ?`,
		touch: `
UPDATE {records} SET version = ?, expires = ? WHERE digest = ? AND version = ?`,
		// A deletion by the order of expiry would lock gaps that claims insert into.
		sweep: []string{
			`SELECT digest FROM {records} WHERE expires <= {clock} ORDER BY expires LIMIT 256`,
			`DELETE FROM {records} WHERE digest = ? AND expires <= {clock}`,
		},
		byState: `
SELECT {clock}, ` + columns + `, r.digest FROM {records} r
WHERE r.state = ? AND (r.since > ? OR r.since = ? AND r.digest > ?) AND (r.expires IS NULL OR r.expires > {clock})
	AND r.digest >= ? AND r.digest <= ?
ORDER BY r.since, r.digest LIMIT 256`,
		byName: `
SELECT {clock}, ` + columns + `, r.digest FROM {records} r
WHERE r.digest > ? AND r.digest >= ? AND r.digest <= ? AND (r.expires IS NULL OR r.expires > {clock}) ORDER BY r.digest LIMIT 256`,
		version: `SELECT version FROM {records} WHERE digest = '' AND state = 'schema'`,
		clear:   `DELETE FROM {records} WHERE digest <> ''`,
		migrations: []Migration{{Version: 1, Statements: []string{`
CREATE TABLE IF NOT EXISTS {records} (
	digest    VARBINARY(32) NOT NULL PRIMARY KEY COMMENT 'SHA-256 of the key',
	version   BIGINT        NOT NULL COMMENT 'another one after each write',
	state     VARCHAR(16)   CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	fence     BIGINT        NOT NULL,
	revision  BIGINT        NOT NULL,
	since     BIGINT        NOT NULL COMMENT 'when it came into its state; all times are microseconds since 1970',
	lease_end BIGINT,
	deadline  BIGINT,
	expires   BIGINT        COMMENT 'when it is forgotten; null: never',
	record    LONGBLOB      NOT NULL,
	INDEX {open} (state, since, digest),
	INDEX {expiring} (expires)
) ENGINE = InnoDB`,
			`INSERT IGNORE INTO {records} (digest, version, state, fence, revision, since, record) VALUES ('', 1, 'schema', 0, 0, 0, '')`,
		}}},
		probes: slices.Clone(rightsProbes),
		looks: []look{
			{`SELECT VERSION()`, mysqlVersion},
			{`SELECT @@GLOBAL.read_only`, func(v []string) error {
				if v[0] != "0" {
					return fmt.Errorf("%w: the server is read-only, a replica perhaps: connect to the primary", store.ErrUnsafe)
				}
				return nil
			}},
			{`SELECT @@GLOBAL.innodb_flush_log_at_trx_commit, @@GLOBAL.innodb_doublewrite, @@GLOBAL.log_bin, @@GLOBAL.sync_binlog, @@GLOBAL.max_allowed_packet`, mysqlDurable},
		},
		code:  mysqlNumber,
		codes: mysqlCodes,
	}
}

var mysqlRelease = regexp.MustCompile(`^(\d+)\.(\d+)`)

func mysqlVersion(v []string) error {
	part := mysqlRelease.FindStringSubmatch(v[0])
	if part == nil {
		return fmt.Errorf("%w: the server says that it is %q", store.ErrUnverified, v[0])
	}
	major, _ := strconv.Atoi(part[1])
	minor, _ := strconv.Atoi(part[2])
	maria := strings.Contains(v[0], "MariaDB")
	if !maria && major < 8 || maria && (major < 10 || major == 10 && minor < 6) {
		return fmt.Errorf("%w: %s is older than MySQL 8.0 and MariaDB 10.6", store.ErrUnsafe, v[0])
	}
	return nil
}

func mysqlDurable(v []string) error {
	packet, _ := strconv.Atoi(v[4])
	switch {
	case v[0] != "1":
		return fmt.Errorf("%w: innodb_flush_log_at_trx_commit is %s: a crash loses the last records: set it to 1", store.ErrUnsafe, v[0])
	case v[1] == "0" || v[1] == "OFF":
		return fmt.Errorf("%w: innodb_doublewrite is off: a crash of the host may damage records, unless the file system writes whole pages", store.ErrUnverified)
	case v[2] != "1":
		return fmt.Errorf("%w: log_bin is off: InnoDB shows others a record before it is durable, so that a duplicate may be answered by one that a crash then loses: set log_bin, and sync_binlog to 1", store.ErrUnverified)
	case v[3] != "1":
		return fmt.Errorf("%w: sync_binlog is %s: a duplicate may be answered by a record that a crash then loses, and a replica have others than its primary: set it to 1", store.ErrUnverified, v[3])
	case packet < store.MaxData+1<<20:
		return fmt.Errorf("%w: max_allowed_packet is %d bytes: longer results cannot be recorded, and their calls stay in doubt: set it to 32M, or keep results short", store.ErrUnverified, packet)
	}
	return nil
}

var mysqlCodes = map[string]kind{
	"1062": duplicate,
	"1213": undone, "1020": undone, // deadlock; the record has changed since it was read
	"1146": noTable, "1049": noTable, "1054": noTable,
	"1142": denied, "1143": denied, "1044": denied, "1227": denied,
	"1290": readOnly, "1836": readOnly, "1792": readOnly,
	"1114": full, "1021": full,
	"1045": noLogin,
	"1205": busy, "3024": busy, "1969": busy, // lock and statement timeouts
}

var mysqlError = regexp.MustCompile(`^Error (\d+)\b`)

// mysqlNumber is the number in an error of go-sql-driver/mysql.
func mysqlNumber(err error) string {
	for ; err != nil; err = errors.Unwrap(err) {
		if found := mysqlError.FindStringSubmatch(err.Error()); found != nil {
			return found[1]
		}
	}
	return ""
}
