// Package sqlstore is a store in a table of PostgreSQL, MySQL, MariaDB or SQLite, for those
// who have one of these at hand and want no other server for a guard.
//
// It needs database/sql and a driver of your choice, which it does not import: pgx and
// lib/pq, go-sql-driver/mysql, modernc.org/sqlite and others. An error of the database
// is recognized by its SQLSTATE, its number or its words.
//
// # The table
//
// One table, atmostonce_records, has a row for each key: the SHA-256 of the key, columns for
// what is searched and for what the database's clock decides, and the rest as bytes
// with a version and a checksum. A row whose digest is empty has the version of the
// table. [Options] name another schema or prefix.
//
// [New] and calls define nothing. [Store.Migrate] makes the table where it is asked to;
// or take [Store.Migrations] into the runner of your own migrations. [Store.Check],
// which the guard asks when a worker starts, looks whether the table is there and of the
// right version. A role needs these rights, and may not need to define anything:
//
//	GRANT SELECT, INSERT, UPDATE, DELETE ON atmostonce_records TO worker
//
// # What the settings buy
//
// A record is as durable as a committed row. Check refuses, with [store.ErrUnsafe], what
// loses records at an ordinary crash, and reports, with [store.ErrUnverified], what loses
// some of them in a fail-over:
//
//	PostgreSQL  fsync = on                        a crash of the host loses nothing; off is refused
//	            synchronous_commit = on           a crash of the server loses nothing; off is refused
//	            full_page_writes = on             a crash of the host damages no record
//	            synchronous_standby_names         a promoted replica has every record; without it, while
//	                                              replicas follow, it lacks the last, and Check reports it
//	            synchronous_commit = local        as if there were no synchronous replica: reported
//	MySQL,      innodb_flush_log_at_trx_commit=1  a crash loses nothing; else refused
//	MariaDB     log_bin, sync_binlog = 1          no duplicate is answered by a record that a crash then
//	                                              loses: without a binary log, InnoDB shows others a row
//	                                              before it is on disk; reported
//	            innodb_doublewrite                a crash of the host damages no record
//	            max_allowed_packet = 32M          the longest results can be recorded
//	SQLite      synchronous = FULL                a power failure loses nothing; less is refused
//	            journal_mode = WAL                readers do not wait for writers
//	            busy_timeout = 10000              writers wait for each other, instead of failing
//
// SQLite's are for each connection, so that they belong into the DSN. Replication of MySQL
// and MariaDB is not looked at: a replica that is promoted lacks what it had not
// received, unless it is semi-synchronous or better.
//
// A replica, and whatever else is read-only, is refused. Isolation may be any: each
// statement is a transaction of its own, and is repeated after a serialization failure or
// a deadlock. A statement that the database gives up, at its lock_timeout say, is an
// error of the call, which the guard repeats.
//
// # Connections
//
// There are no transactions, no session state and no advisory locks. One connection is
// enough for any number of callers, and no call holds one while it asks for another: a
// pool may be shared with the application. PgBouncer may be in transaction mode; its driver's
// prepared statements must then be off, or known to it (default_query_exec_mode=simple_protocol
// of pgx).
//
// # Statements
//
// Each is a round trip. The first number is PostgreSQL's, the second that of the others,
// which return nothing of what they have written.
//
//	claim of a new key     1  2        release                 2  2
//	renewal                1  2        takeover, resolution    2  2
//	settle                 1  2        claim of a tombstone    2  2
//	duplicate, look        1  1        listing, for a page     1  1
//
// A row that somebody else has written in between is read and written again. A renewal or a
// settle of another process than the one that has claimed takes 2.
// (go test -run '^$' -bench SQL . in the module databases)
//
// # Size
//
// A settled record takes about 1.25 kB of PostgreSQL, indexes included, plus its outcome and
// what its key and IDs are longer than usual. Rows past their expiry count as none,
// and are removed as new ones come, some 256 at a time, without a wait for those that others
// work on; [Store.Sweep] does so at once. Each record is written two or three times in
// its life, so that autovacuum has work.
//
// # Listing
//
// What is running, in doubt or pending has an index, and comes oldest first, as does what
// begins with a digest. Any other listing reads the table in the order of its primary
// key. No connection is held between two pages of 256.
//
// # Tested
//
// PostgreSQL 15, MariaDB 10.11 and SQLite 3.53, with package storetest: its contract, its
// linearizability check with servers that are killed and replies that are lost, through
// PgBouncer, and over the promotion of a replica, synchronous and not. Of MySQL itself only
// the SQL is known to be its own.
package sqlstore
