// Package store keeps one record per key: who may act on it, and what came of
// the act.
//
// A [Store] is dumb and atomic: it never decides what a duplicate gets. That is
// the guard's business (package interceptor). What every store must do is
// written on the interface and checked by package storetest, which is public: a
// store of your own that passes it can be given to a guard.
//
// # Which store promises what
//
// All three promise that a record, once acknowledged, decides every later call:
// one owner at a time, an outcome that is never overwritten, a doubt that is
// never cleared in silence. They differ in what they survive.
//
//	              Memory           File                     Redis
//	shared by     one process      the processes of a host  what reaches the server
//	a crash       forgets          keeps                    as its settings say
//	power loss    forgets          keeps what was fsynced   as its settings say
//	sees death    at lease's end   at once, by a lock       at lease's end
//	clock         the process's    the host's, for expiry   the server's
//	at its limit  ErrFull          the disk's error         ErrFull, for claims only
//
// No store can make an effect happen exactly once, tell whether the effect of a
// dead owner took place, or stop an owner that has lost its claim and goes on:
// hand the callee the key (once.Key) where it can tell duplicates apart.
//
// # File
//
// A directory of a local file system: one JSON file per record, replaced by
// write, fsync, rename, fsync of the directory, so that a crash leaves the old
// record or the new one. A file system on which locks or fsync are not known to
// hold, a network mount say, is refused unless [FileOptions] admits it. Leases do
// not matter: each claim holds a kernel lock, so a process that is suspended for
// an hour still owns what it owned, and one that died does not. Nor does a record
// expire while its owner lives, whatever becomes of the host's clock.
//
// Nobody else may remove files in that directory. If somebody does, what is gone
// can happen again: [File.Check] reports it as [ErrForgot], and a subdirectory is
// made anew. What nobody can notice: what was removed while no process had the
// store open, and single records.
//
// Its processes run as one user, and nobody else may write in it: see [NewFile]. A
// record ends in a checksum over all of it. It may be read with any tool, and not be
// changed with one: a record in which a byte is another is [ErrCorrupt], and nothing
// runs under its key until the file is as it was or, if the effect may happen again,
// removed. Programs from before the checksum answer [ErrVersion] about records that
// have one; theirs are read, and get one when they are next written.
//
// # Redis
//
// A record lives as long as the server remembers it. What a restart or a fail-over
// forgets can happen again, so choose by what a second effect would cost:
//
//	setting                            what is lost                      cost of a first run
//	no persistence                     everything, at each restart       1 (236 µs)
//	appendfsync everysec               a killed process: nothing; power  1.4
//	                                   loss: the last one or two seconds
//	appendfsync always                 a power loss loses nothing that   4.0
//	                                   was acknowledged
//	a replica, Sentinel or Cluster     at a fail-over: what the replica  -
//	                                   had not yet received
//	and RedisOptions.Replicas          at a fail-over to a replica that  2.9
//	                                   confirmed: no claim, no outcome
//
// (Medians of one run, on two cores that server and client share:
// go test -run '^$' -bench RedisDurability ./store.)
//
//   - maxmemory-policy must be noeviction; Check refuses any other. Give the server
//     memory instead: a record takes about a kilobyte, plus its outcome.
//   - A fail-over may choose a replica that has confirmed less than another one.
//     Only where RedisOptions.Replicas is the number of a master's replicas has
//     each of them every claim; then one that is down holds up new claims.
//   - min-replicas-to-write bounds how long a master that was cut off goes on
//     accepting writes; it does not replace RedisOptions.Replicas.
//   - WAITAOF needs Redis 7.2 and is not used.
//   - A Ring is refused: its clients do not agree on where a key is.
//   - While a Cluster moves a slot, calls with RedisOptions.Replicas about keys that
//     have moved already end in ErrUnreplicated until the slot has.
//   - The client's MaxRetries may be anything: each call is recognized when it is
//     repeated, and answered as it was the first time.
//
// # Rights and servers
//
// A user of the server, for the default RedisOptions.Prefix:
//
//	ACL SETUSER atmostonce on >PASSWORD resetchannels ~atmostonce:* -@all
//	    +eval +evalsha +hdel +hget +hgetall +hmget +hset +persist +pexpireat
//	    +pexpiretime +ping +time +zadd +zrange +zrem +zscore +info +scan
//
// [Redis.Check] asks for each command that calls need, on keys of the prefix, and
// refuses a user that lacks one, with [ErrDenied]. A right that is taken away later
// stops a call before it changes what a record says, also with ErrDenied. These are
// needed on top, or can be left out:
//
//   - wait is needed where RedisOptions.Replicas is set, cluster|slots by the client
//     of a Cluster.
//   - info shows whether the server evicts, and whether it was replaced. Without it,
//     config|get shows the first; without both, Check answers [ErrUnverified].
//   - scan is for List, not for calls; unlink is for Clear, in tests.
//
// Tested is Redis 7.0.15: as a single server, with replicas, with Sentinel and as a
// Cluster, with package storetest and with servers that are killed. Refused by name
// and version is what is older than 7.0 or cannot run the scripts: tested with
// miniredis 2.40, and with the answers of Redis 5 and 6, KeyDB, Kvrocks and a server
// without scripts. Not tested, and let in, are later versions of Redis, Valkey and
// Redict; others that say they speak Redis 7 (Dragonfly, Garnet) are let in with
// ErrUnverified if the scripts run.
//
// A server that lost records is noticed, not prevented. [Redis.Check] keeps a
// counter on each master, and the guard asks it every sixth of a lease while
// calls come in: a counter behind what a process remembers is [ErrForgot], another
// server process than the counter remembers is [ErrReplaced]. What nobody can
// notice: writes after the last Check, and an emptied server of which no process
// remembers anything. RedisOptions.Quarantine keeps new claims away until what was
// underway has ended. An owner whose claim was forgotten writes it down again when
// it settles, and says so ([Record.Forgotten]).
//
// # Size
//
// A settled record takes about 1 kB of Redis and 0.75 kB of Memory, plus its
// outcome and what its key and IDs are longer than usual. Among a million records a
// call on Redis costs what it costs among a thousand. On Memory a first run costs
// 1.2 to 1.4 times as much, and a duplicate 2.4 times, 1.7 µs, since no cache has its
// record; a read of a bare map grows 2.9 times. No call scans.
// (go test -run '^$' -bench Scale ./store)
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
// record is found by its digest alone, too. Any other listing looks at all records;
// on Redis by [SCAN] in steps, without blocking the server.
// (go test -run '^$' -bench ListInDoubt ./store)
//
// Records of programs that knew of no index are found: the first listing of open
// records looks at everything once. While such programs still run beside newer
// ones, what they write may be missing until a call meets it; [Redis.Reindex] and
// [File.Reindex] put that right, and what restored backups leave.
//
// On Redis the index is a sorted set, prefix + "open"; on a Cluster each slot has
// its own. On a file system it is an empty file per open record, and is not made
// durable: it is built anew after a start of the host. While a Cluster moves a slot,
// calls about its keys may end in TRYAGAIN, and are repeated as after any error of
// the store.
//
// [SCAN]: https://redis.io/docs/latest/commands/scan/
package store
