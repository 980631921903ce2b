// Package redisstore is a store on Redis for a guard: see package store for what a
// store promises, and how this one compares with the others.
//
// # Settings
//
// A record lives as long as the server remembers it. What a restart or a fail-over
// forgets can happen again, so choose by what a second effect would cost:
//
//	setting                            what is lost                      cost of a first run
//	no persistence                     everything, at each restart       1 (128 µs)
//	appendfsync everysec               a killed process: nothing; power  1.1
//	                                   loss: the last one or two seconds
//	appendfsync always                 a power loss loses nothing that   3.5
//	                                   was acknowledged
//	a replica, Sentinel or Cluster     at a fail-over: what the replica  -
//	                                   had not yet received
//	and Options.Replicas               at a fail-over to a replica that  2.7
//	                                   confirmed: no claim, no outcome
//
// (The median of three runs, on two busy cores that server and client share:
// go test -run '^$' -bench RedisDurability ./store/redisstore.)
//
//   - maxmemory-policy must be noeviction; Check refuses any other. Give the server
//     memory instead: a record takes about 420 bytes, plus its outcome.
//   - A fail-over may choose a replica that has confirmed less than another one.
//     Each replica has every claim only if Options.Replicas is the number of a
//     master's replicas; then one that is down holds up new claims.
//   - min-replicas-to-write bounds how long a master that was cut off goes on
//     accepting writes; it does not replace Options.Replicas.
//   - WAITAOF needs Redis 7.2 and is not used.
//   - A Ring is refused: its clients do not agree on where a key is.
//   - While a Cluster moves a slot, calls with Options.Replicas about keys that have
//     moved already end in ErrUnreplicated until the slot has.
//   - The client's MaxRetries may be anything: each call is recognized when it is
//     repeated, and answered as it was the first time.
//
// # Rights and servers
//
// A user of the server, for the default Options.Prefix:
//
//	ACL SETUSER atmostonce on >PASSWORD ~atmostonce:* resetchannels &atmostonce:* -@all
//	    +eval +evalsha +get +getrange +hmget +hset +persist +pexpireat +pexpiretime
//	    +ping +pttl +set +setrange +time +zadd +zrange +zrem +zscore +info +scan
//	    +spublish +ssubscribe +sunsubscribe
//
// [Store.Check] asks for each command that calls need, on keys of the prefix, and
// refuses a user that lacks one, with [store.ErrDenied]. A right that is taken away
// later stops a call before it changes what a record says, also with ErrDenied. These
// are needed on top, or can be left out:
//
//   - wait is needed where Options.Replicas is set, cluster|slots by the client of a
//     Cluster.
//   - info shows whether the server evicts, and whether it was replaced. Without it,
//     config|get shows the first; without both, Check answers [store.ErrUnverified].
//   - spublish, ssubscribe, sunsubscribe and the channels &atmostonce:* wake calls that
//     wait for another as soon as it has ended. Without them, Check answers
//     [store.ErrUnverified], and such calls look at intervals.
//   - scan is for List, not for calls; unlink is for Clear, in tests.
//
// Redis 7.0.15 is tested: as a single server, with replicas, with Sentinel and as a
// Cluster, with package storetest and with servers that are killed. Servers that
// are older than 7.0 or cannot run the scripts are refused by name and version:
// that is tested with miniredis 2.40, and with the answers of Redis 5 and 6, KeyDB,
// Kvrocks and a server without scripts. Later versions of Redis, Valkey and Redict
// are let in untested; others that say they speak Redis 7 (Dragonfly, Garnet) are
// let in with ErrUnverified if the scripts run.
//
// A server that lost records is noticed, not prevented. [Store.Check] keeps a
// counter on each master, and the guard asks it every sixth of a lease while
// calls come in: a counter behind what a process remembers is [store.ErrForgot],
// another server process than the counter remembers is [store.ErrReplaced]. Nobody
// can notice the loss of writes after the last Check, nor an emptied server of
// which no process remembers anything. Options.Quarantine keeps new claims away
// until what was underway has ended. An owner whose claim was forgotten writes it
// down again when it settles, and says so ([store.Record.Forgotten]).
//
// # Size
//
// A settled record takes about 420 bytes of Redis, plus its outcome and what its key and
// IDs are longer than usual. Among a million records a call costs what it costs among
// a thousand, to two hundredths. No call scans.
// (go test -run '^$' -bench 'Scale/redis|RedisBytes' ./store/redisstore)
//
// # What one server carries
//
// Of the one thread of a server, its system calls included, a call takes in µs:
//
//	                                      alone    shared by 32
//	a first run: a claim and a settle      33          17
//	a renewal                              16           8
//	a duplicate that the process expects   11           2
//	any other duplicate                    13           5
//
// So half of the thread, 500,000 µs in each second, carries 15,000 first runs a second, and
// 29,000 where many calls come at once. Claims are renewed every third of a lease: with the
// default of a minute, 600,000 activities that run at the same time take it up, or 1.2
// million. Memory ends earlier: a million settled records with outcomes of 58 bytes take
// 0.47 GB, and as many records are kept as there are first runs in the time for which one
// is kept: 10 a second, for 30 days, are 26 million, and 12 GB.
// (Medians on an EPYC core of 2 shared ones, Redis 7.0.15 without persistence, from INFO cpu.)
//
// # Round trips
//
// A claim, a settle, a renewal and a look take one round trip each. Calls that come at
// once share round trips, unless Options.Replicas is set: a client need not be a
// pipeline of its own. A duplicate of a key that the process has met takes plain
// commands, and no script: a proxy that sends those to replicas is not for this store. A
// call that waits for another hears of its end by a message, on one connection for each
// master, which is there while somebody waits, and finds the master that has taken
// another's place; it polls as well.
// (go test -run '^$' -bench 'Redis$' ./store/redisstore)
//
// # Listing
//
// A record is one packed string: look at it by its digest, with Find of a guard, or with
// List and [store.Query].Digest. With redis-cli one can see its state, a letter after the
// byte of its version (running, in doubt, pending, succeeded, failed or tombstone: r d p s
// f t), and for how long it will be there:
//
//	digits=$(printf %s "$key" | openssl dgst -sha256 -binary | openssl base64 | tr +/ -_ | cut -c1-22)
//	redis-cli GETRANGE "atmostonce:{$digits}" 1 1
//	redis-cli PTTL "atmostonce:{$digits}"
//
// The index of what is running, in doubt or pending is a sorted set, prefix + "open";
// on a Cluster each slot has its own. A listing that no index answers goes by [SCAN] in
// steps, without blocking the server. [Store.Reindex] puts right what restored
// backups leave, and programs that know of no index. While a Cluster moves a slot,
// calls about its keys may end in TRYAGAIN, and are repeated as after any error of
// the store.
//
// [SCAN]: https://redis.io/docs/latest/commands/scan/
package redisstore
