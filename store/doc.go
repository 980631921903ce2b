// Package store keeps one record per key: who may act on it, and what came of
// the act.
//
// A [Store] is dumb and atomic: it never decides what a duplicate gets. That is
// the guard's business (package interceptor). What every store must do is written
// on the interface and checked by package storetest, which is public. [Memory] and [File] are in this
// package; the store on Redis is in package redisstore, so that a program links a
// Redis client only if it uses one, and that in a table of PostgreSQL, MySQL, MariaDB or
// SQLite in package sqlstore. Their documentation says which settings and rights they need.
//
// # Which store promises what
//
// All promise that a record, once acknowledged, decides every later call:
// one owner at a time, an outcome that is never overwritten, a doubt that is
// never cleared in silence. They differ in what they survive.
//
//	              Memory           File                     redisstore               sqlstore
//	shared by     one process      the processes of a host  what reaches the server  what reaches the database
//	a crash       forgets          keeps                    as its settings say      keeps, as Check sees to
//	power loss    forgets          keeps what was fsynced   as its settings say      keeps, as Check sees to
//	sees death    at lease's end   at once, by a lock       at lease's end           at lease's end
//	clock         the process's    the host's, for expiry   the server's             the database's
//	at its limit  ErrFull          the disk's error         ErrFull, for claims only ErrFull, of a full disk
//
// No store can make an effect happen exactly once, know whether the effect of a
// dead owner took place, or stop an owner that has lost its claim and goes on:
// hand the callee the key (once.Key) where it can recognize duplicates.
//
// # File
//
// A log in a directory of a local file system, which the processes of a host share. It
// is text: each change of a record is a line at the end of a file, with the record as
// JSON, and the last line about a digest is what counts:
//
//	grep -h " $digest " log/*.log | tail -1
//
// A line is written under the kernel's lock of the store, and no answer leaves before
// it, and every line before it, was synced; one sync serves all calls that wait. A crash
// leaves the old record or the new one. A file system on which locks or fsync are not
// known to hold, a network mount say, is refused unless [FileOptions] admits it. Leases do
// not matter: each claim holds a kernel lock, so a process that is suspended for
// an hour still owns what it owned, and one that died does not. Nor does a record
// expire while its owner lives, whatever becomes of the host's clock.
//
// Nobody else may remove files in that directory. If somebody does, what is gone
// can happen again: [File.Check] reports it as [ErrForgot]. Nobody can notice that the end
// of the log was removed while no process had the store open.
//
// Its processes run as one user, and nobody else may write in it: see [NewFile]. A
// line ends in a checksum over all of it. Any tool may read it, and none may
// change it: a record in a line with a changed byte is [ErrCorrupt], and nothing
// runs under its key until the line is as it was or, if the effect may happen again,
// removed while no process has the store open. Where more is damaged, so that nobody
// knows whose line it was, that is so of every key of which nothing later is known.
// What was erased is overwritten in every line.
//
// # Size
//
// A settled record takes about 0.75 kB of Memory, plus its outcome and what its key
// and IDs are longer than usual. Among a million records a first run on Memory costs
// 1.2 to 1.4 times what it costs among a thousand, and a duplicate 2.4 times, 1.7 µs,
// since no cache has its record; a read of a bare map grows 2.9 times. No call scans.
// (go test -run '^$' -bench Scale/memory ./store/redisstore)
//
// The data of an outcome has at most [MaxData] bytes; a key, a text of [Info], a
// context and the reason why data is missing have 64 kB each, the reason of a
// resolution 4 kB, nonces and authors 512 bytes. More is answered [ErrInvalid] before
// anything is written. A record that has more, or that contradicts itself, is
// [ErrCorrupt], and costs no more than that answer.
//
// # Listing
//
// What is running, in doubt or pending is found in an index that the stores keep
// with the records: a listing of it takes as long among a million settled records as
// among ten thousand. It comes oldest first, and page by page with [Query.After]. A
// record is found by its digest alone, too. Any other listing looks at all records.
// (go test -run '^$' -bench ListInDoubt ./store/redisstore)
//
// Records of programs that knew of no index are found in Redis: the first listing of open
// records looks at everything once. While such programs still run beside newer
// ones, what they write may be missing until a call meets it; Reindex of redisstore puts
// that right, and what restored backups leave. On a file system the index is in
// the memory of each handle, made from the log.
//
// # A store of your own
//
// A store of your own that passes storetest.Run can be given to a guard. On anything
// that has compare-and-set, the protocol need not be written again: read a record, apply a
// [Transition], and write what came of it if nobody else has written; [EncodeRecord] and
// [DecodeRecord] are its form as bytes. Package sqlstore is made in this way.
//
// One that says the protocol in a language of its own does more itself. Check what
// comes in with [Bid.Validate], [Outcome.Validate] and [Resolution.Validate],
// and what was read from where others may write with [Record.Validate] and, as JSON,
// [CheckShape] before it. A listing of an open state ([Query.OnlyState],
// [State.IsOpen]) comes in the order of [Record.Compare]. A TTL over [LongestTTL]
// is forever.
//
// A store may also be a [Checker], say its kind for metrics and logs ([Kinded]),
// that it sees the death of an owner ([OwnerWatcher]), and when a record has changed
// that somebody waits for ([Notifier]).
package store
