package sqlstore

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/atmostonce/atmostonce/store"
)

// columns are those of a row, after the clock, in the order of row.fields.
const columns = `r.version, r.state, r.fence, r.revision, r.since, r.lease_end, r.deadline, r.expires, r.record`

// postgres says it in PostgreSQL. now() would be the start of the transaction, which may
// be the application's own. Casts are for drivers and poolers that send text.
func postgres() *dialect {
	const (
		clock = `WITH clock AS MATERIALIZED (SELECT {clock} AS now) `
		live  = `(expires IS NULL OR expires > now)`
		later = `CASE WHEN expires IS NULL OR %[1]s::bigint IS NULL THEN NULL ELSE greatest(expires, now + %[1]s::bigint) END`
	)
	return &dialect{
		clock: `(extract(epoch FROM clock_timestamp()) * 1000000)::bigint`,
		quote: `"`,
		load: clock + `
SELECT now, ` + columns + ` FROM clock LEFT JOIN {records} r ON r.digest = $1::bytea`,
		insert: `
INSERT INTO {records} (version, state, fence, revision, since, lease_end, deadline, expires, record, digest)
VALUES ($1::bigint, $2, $3::bigint, $4::bigint, $5::bigint, $6::bigint, $7::bigint, $8::bigint, $9::bytea, $10::bytea)
ON CONFLICT (digest) DO NOTHING`,
		update: `
UPDATE {records} SET version = $1::bigint, state = $2, fence = $3::bigint, revision = $4::bigint, since = $5::bigint,
	lease_end = $6::bigint, deadline = $7::bigint, expires = $8::bigint, record = $9::bytea
WHERE digest = $10::bytea AND version = $11::bigint`,
		touch: `
UPDATE {records} SET version = $1::bigint, expires = $2::bigint WHERE digest = $3::bytea AND version = $4::bigint`,
		claim: clock + `, made AS (
	INSERT INTO {records} (digest, version, state, fence, revision, since, lease_end, deadline, expires, record)
	SELECT $1::bytea, $2::bigint, 'running', now, 1, now, now + $3::bigint, now + $4::bigint, now + $5::bigint, $6::bytea FROM clock
	ON CONFLICT (digest) DO NOTHING RETURNING version)
SELECT made.version IS NOT NULL, now, ` + columns + `
FROM clock LEFT JOIN made ON true LEFT JOIN {records} r ON r.digest = $1::bytea`,
		renew: clock + `
UPDATE {records} SET version = $1::bigint, revision = revision + 1, lease_end = greatest(lease_end, now + $2::bigint),
	expires = ` + fmt.Sprintf(later, "$3") + `
FROM clock WHERE digest = $4::bytea AND version = $5::bigint AND ` + live + `
RETURNING now, lease_end, expires`,
		settle: clock + `
UPDATE {records} SET version = $1::bigint, state = $2, revision = $3::bigint, since = now, lease_end = NULL,
	expires = ` + fmt.Sprintf(later, "$4") + `, record = $5::bytea
FROM clock WHERE digest = $6::bytea AND version = $7::bigint AND ` + live + `
RETURNING now, expires`,
		sweep: []string{`
DELETE FROM {records} WHERE digest IN (
	SELECT digest FROM {records} WHERE expires <= {clock} ORDER BY expires LIMIT 256 FOR UPDATE SKIP LOCKED)`},
		byState: clock + `
SELECT now, ` + columns + `, r.digest FROM clock, {records} r
WHERE r.state = $1 AND (r.since, r.digest) > ($2::bigint, $3::bytea) AND ` + live + ` AND r.digest >= $4::bytea AND r.digest <= $5::bytea
ORDER BY r.since, r.digest LIMIT 256`,
		byName: clock + `
SELECT now, ` + columns + `, r.digest FROM clock, {records} r
WHERE r.digest > $1::bytea AND r.digest >= $2::bytea AND r.digest <= $3::bytea AND ` + live + ` ORDER BY r.digest LIMIT 256`,
		version: `SELECT version FROM {records} WHERE digest = ''::bytea AND state = 'schema'`,
		clear:   `DELETE FROM {records} WHERE digest <> ''::bytea`,
		migrations: []Migration{{Version: 1, Statements: []string{`
CREATE TABLE IF NOT EXISTS {records} (
	digest    bytea    PRIMARY KEY, -- SHA-256 of the key
	version   bigint   NOT NULL,    -- another one after each write
	state     text     NOT NULL,
	fence     bigint   NOT NULL,
	revision  bigint   NOT NULL,
	since     bigint   NOT NULL,    -- when it came into its state; all times are microseconds since 1970
	lease_end bigint,
	deadline  bigint,
	expires   bigint,               -- when it is forgotten; null: never
	record    bytea    NOT NULL
)`,
			`CREATE INDEX IF NOT EXISTS {open} ON {records} (state, since, digest) WHERE state IN ('running', 'in_doubt', 'pending')`,
			`CREATE INDEX IF NOT EXISTS {expiring} ON {records} (expires) WHERE expires IS NOT NULL`,
			`INSERT INTO {records} (digest, version, state, fence, revision, since, record) VALUES ('', 1, 'schema', 0, 0, 0, '') ON CONFLICT (digest) DO NOTHING`,
		}}},
		probes: slices.Clone(rightsProbes),
		looks: []look{
			{`SELECT current_setting('server_version_num')`, func(v []string) error {
				if n, err := strconv.Atoi(v[0]); err != nil || n < 140000 {
					return fmt.Errorf("%w: PostgreSQL %s is older than 14", store.ErrUnsafe, v[0])
				}
				return nil
			}},
			{`SELECT pg_is_in_recovery(), current_setting('transaction_read_only')`, func(v []string) error {
				switch {
				case v[0] == "true":
					return fmt.Errorf("%w: the server is a replica: connect to the primary (target_session_attrs=read-write)", store.ErrUnsafe)
				case v[1] == "on":
					return fmt.Errorf("%w: the connection is read-only: set default_transaction_read_only to off for the store's role", store.ErrUnsafe)
				}
				return nil
			}},
			{`SELECT current_setting('fsync'), current_setting('synchronous_commit'), current_setting('full_page_writes')`, func(v []string) error {
				switch {
				case v[0] != "on":
					return fmt.Errorf("%w: fsync is %s: a crash of the host loses or damages records: set it to on", store.ErrUnsafe, v[0])
				case v[1] == "off":
					return fmt.Errorf("%w: synchronous_commit is off: a crash of the server loses the last records: set it to on for the store's role or database", store.ErrUnsafe)
				case v[2] != "on":
					return fmt.Errorf("%w: full_page_writes is %s: a crash of the host may damage records, unless the file system writes whole pages", store.ErrUnverified, v[2])
				}
				return nil
			}},
			{`SELECT current_setting('synchronous_standby_names'), current_setting('synchronous_commit'), (SELECT count(*) FROM pg_stat_replication)`, postgresReplicas},
		},
		code:  sqlState,
		codes: postgresCodes,
	}
}

// postgresReplicas judges what a fail-over would lose.
func postgresReplicas(v []string) error {
	switch {
	case v[0] == "" && v[2] != "0":
		return fmt.Errorf("%w: replicas follow, and none is in synchronous_standby_names: the promotion of one loses the last records", store.ErrUnverified)
	case v[0] != "" && v[1] == "local":
		return fmt.Errorf("%w: synchronous_commit is local: no replica confirms a record, and the promotion of one loses the last: set it to on", store.ErrUnverified)
	}
	return nil
}

var postgresCodes = map[string]kind{
	"40001": undone, "40P01": undone, // serialization failure, deadlock
	"42P07": undone, "23505": undone, // of two that create a table at once
	"42P01": noTable, "3F000": noTable, "42703": noTable,
	"42501": denied,
	"25006": readOnly,
	"53100": full,
	"28P01": noLogin, "28000": noLogin, "3D000": noLogin,
	"55P03": busy, "57014": busy, // lock and statement timeout
}

// sqlState is the SQLSTATE of an error of pgx or lib/pq.
func sqlState(err error) string {
	var coded interface{ SQLState() string }
	if errors.As(err, &coded) {
		return coded.SQLState()
	}
	return ""
}
