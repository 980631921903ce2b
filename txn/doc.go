// Package txn makes an effect happen exactly once where it is rows in your own database:
// the rows and a marker that they are there are committed in one transaction, and the
// primary key of the marker is the key of the guarded call.
//
//	ledger, err := txn.Open(ctx, db, txn.Options{})
//	...
//	transfer := atmostonce.Func(guard, "transfer", once.Policy{InDoubt: ledger.Decides()},
//		func(ctx context.Context, in Transfer) (Receipt, error) {
//			return txn.Do(ctx, ledger, func(ctx context.Context, tx *sql.Tx) (Receipt, error) {
//				// read and write in tx
//			})
//		})
//
// It serves activities, functions and steps ([atmostonce.Step]) alike, under every store of
// the guard, and with any driver of database/sql for PostgreSQL (14 and newer), MySQL,
// MariaDB (10.6 and newer) and SQLite (3.35 and newer).
//
// # What holds, and why
//
// Two runs of one key cannot both commit: the second marker waits for the first
// transaction, and then meets its primary key. That needs no lease, no clock and no fence,
// and it holds where the guard's store has lost everything. The run that comes second is
// rolled back, and gets the result of the first from the marker, encoded by the guard's own
// codec or data converter.
//
// A call that was interrupted need not be in doubt: under the policy of [DB.Decides] the
// next attempt asks the marker. If it is there, its result is the call's, and the guard's
// record is healed. If it is not, the interrupted run is barred, by a row that its own
// marker would meet, so that it cannot commit any more, and the next attempt runs at once.
// A transaction that is still open is waited for, for some seconds.
//
// After the commit, nothing undoes it: whatever the function returns afterwards, the guard
// records and answers what was committed.
//
// # What it takes
//
// All of the effect must be in the transaction. What is done beside it, in another
// database or by a request, is not covered: enqueue it in the same transaction (an outbox,
// a job queue in the database). The function may be run again in another transaction,
// after a deadlock, say: it must leave no trace outside of the one that it is given, and
// return the errors of its statements.
//
// Markers must be kept for longer than the guard's records and longer than a call is tried
// again: see [DB.Prune].
//
// # The database
//
// One table has a row for each effect, another one a row about the first; [Migrations] has them
// for a runner of your own. Nothing is kept in a session, no advisory lock is taken, and
// each statement of the ledger's own is a transaction: PgBouncer in transaction mode is
// fine (with pgx, default_query_exec_mode=simple_protocol). Every level of isolation is. Set a
// bound to how long a transaction may stay open while its client is gone
// (idle_in_transaction_session_timeout in PostgreSQL), since it is waited for.
//
// The guarantee is that of a commit. A server that confirms commits before they are on
// disk or on a replica (fsync or synchronous_commit off in PostgreSQL,
// innodb_flush_log_at_trx_commit other than 1 in MySQL, synchronous=OFF in SQLite) may lose rows and marker
// together. The same is so after a restore of the database to an earlier time. The guard's record
// is ahead of it then: under [DB.Decides] a duplicate is refused, with an error that says so,
// until an operator has reopened the record, and not answered with an effect that is gone.
package txn
