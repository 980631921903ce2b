package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/atmostonce/atmostonce/store"
)

// Options are the options of New. The zero value is usable.
type Options struct {
	// Prefix begins the name of every Redis key that the store writes. Two
	// Temporal clusters that share namespace names on one Redis need different
	// prefixes. Defaults to "atmostonce:".
	Prefix string

	// Replicas is how many replicas must confirm each claim, settle and resolve
	// within a second; fewer is ErrUnreplicated. An effect then begins only once
	// so many replicas know of its claim. Defaults to 0: the master's word is
	// enough. Costs the round trip to the replicas.
	Replicas int

	// Quarantine is how long after a loss a key without a record is refused, with
	// ErrQuarantine. It begins in each process with the Check that notices that a
	// server lost records or was replaced, and ends in all together. It should be
	// longer than the lease and the longest activity: what was underway
	// can then end, and write down again what the server has forgotten. Defaults
	// to 0: none.
	Quarantine time.Duration
}

// Store keeps records on a Redis server: a packed string per key, and a script per
// verb, so that each call is one round trip and atomic. It asks only the server's
// clock. Redis 7.0 or newer, as a single server, with Sentinel, or as a Cluster.
//
// What is running, in doubt or pending has an entry in an index beside the records,
// written by the same scripts; see [Store.List] and [Store.Reindex].
//
// A record is as durable as the server: what a fail-over or a restart loses is
// forgotten, and its effect may happen again; the package's documentation says
// which settings prevent what. At its memory limit the server refuses new claims
// with ErrFull; those that run can still settle.
//
// A call ends with its context only if ContextTimeoutEnabled is set in the
// client's options; else with the client's own timeouts.
type Store struct {
	keys      keyspace
	replicas  replicas
	rights    rights
	index     *redisIndex
	looks     *looks // nil: a script for each call
	notices   *notices
	lister    lister
	inspector inspector
	watcher   *watcher
}

var (
	_ store.Store   = (*Store)(nil)
	_ store.Checker = (*Store)(nil)
	_ store.Kinded  = (*Store)(nil)

	_ store.Notifier     = (*Store)(nil)
	_ store.BatchRenewer = (*Store)(nil)
)

// New returns a store on client's server, which it does not contact yet.
// The client stays the caller's to close. It refuses a nil client with
// ErrInvalid, and a *redis.Ring with ErrUnsafe: each client of a ring decides by
// itself which server has a key.
func New(client redis.UniversalClient, o Options) (*Store, error) {
	if v := reflect.ValueOf(client); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return nil, fmt.Errorf("store: redis: %w: nil client", store.ErrInvalid)
	}
	if _, ring := client.(*redis.Ring); ring {
		return nil, fmt.Errorf("store: redis: %w: clients of a Ring do not agree on where a key is; use a single server, Sentinel or Cluster", store.ErrUnsafe)
	}
	if o.Replicas < 0 || o.Quarantine < 0 {
		return nil, fmt.Errorf("store: redis: %w: Replicas %d, Quarantine %v: negative", store.ErrInvalid, o.Replicas, o.Quarantine)
	}
	if o.Prefix == "" {
		o.Prefix = "atmostonce:"
	}
	keys := keyspace{client: client, prefix: o.Prefix}
	confirming := replicas{keys: keys, count: o.Replicas}
	user := rights{keys: keys, waits: o.Replicas > 0}
	index := newRedisIndex(keys)
	var look *looks
	if o.Replicas == 0 {
		index.batches = newBatches(keys)
		if asksMasters(client) {
			look = newLooks(keys, index.batches)
		}
	}
	return &Store{
		keys: keys, replicas: confirming, rights: user, index: index, looks: look,
		notices:   &notices{keys: keys, hearing: map[*redis.Client]*hearing{}},
		lister:    lister{keys: keys, index: index},
		inspector: inspector{keys: keys, rights: user, replicas: o.Replicas},
		watcher:   newWatcher(keys, confirming, o.Quarantine),
	}, nil
}

// Acquire implements [store.Store].
func (s *Store) Acquire(ctx context.Context, b store.Bid) (store.Record, error) {
	if err := s.inQuarantine(ctx, b.Key); err != nil {
		return store.Record{}, err
	}
	if s.looks != nil && s.looks.expects(b) {
		if r, ok, err := s.looks.acquire(ctx, b); ok {
			return r, nil
		} else if err != nil {
			s.keys.reload(ctx, err)
			return store.Record{}, failure(acquireVerb.name, "", err)
		}
	}
	r, err := s.bid(ctx, acquireVerb, b, store.Outcome{})
	if s.looks != nil && err == nil && !r.Owned(b.Owner) {
		s.looks.noted(r)
	}
	return r, err
}

// Renew implements [store.Store].
func (s *Store) Renew(ctx context.Context, b store.Bid) (store.Record, error) {
	return s.bid(ctx, renewVerb, b, store.Outcome{})
}

// RenewAll implements [store.BatchRenewer]: bids that are valid are renewed in one
// pipeline.
func (s *Store) RenewAll(ctx context.Context, bids []store.Bid) []store.Renewed {
	all := make([]store.Renewed, len(bids))
	var sent []int
	var calls []scriptCall
	for i, b := range bids {
		args, err := bidArgs(b, nil)
		if err = cmp.Or(ctx.Err(), b.Validate(), err); err != nil {
			all[i].Err = err
			continue
		}
		name := s.keys.name(b.Key)
		sent, calls = append(sent, i), append(calls, scriptCall{keys: []string{name, s.index.of(name)}, args: args})
	}
	again := true // alone, as the client repeats it and finds another server; until that is in vain
	for k, cmd := range s.keys.evalAll(ctx, renewVerb.script, calls) {
		i := sent[k]
		if s.index.crossed(cmd.Err()) || again && isPassing(cmd.Err()) {
			all[i].Record, all[i].Err = s.Renew(ctx, bids[i])
			again = !isPassing(all[i].Err)
			continue
		}
		all[i].Record, all[i].Err = s.answer(ctx, renewVerb, call{bid: bids[i]}, calls[k].keys[0], cmd)
	}
	return all
}

// Settle implements [store.Store].
func (s *Store) Settle(ctx context.Context, b store.Bid, o store.Outcome) (store.Record, error) {
	if err := o.Validate(); err != nil {
		return store.Record{}, err
	}
	r, err := s.bid(ctx, settleVerb, b, o, string(o.State), packOutcome(b.Key, o))
	if s.looks != nil && err == nil {
		s.looks.noted(r)
	}
	return r, err
}

// Release implements [store.Store].
func (s *Store) Release(ctx context.Context, b store.Bid) (store.Record, error) {
	return s.bid(ctx, releaseVerb, b, store.Outcome{}, flag(b.Began), store.TombstoneTTL.Microseconds())
}

// Takeover implements [store.Store].
func (s *Store) Takeover(ctx context.Context, b store.Bid, from store.Record) (store.Record, error) {
	return s.bid(ctx, takeoverVerb, b, store.Outcome{}, flag(b.Clean), string(from.State), from.Revision, from.Fence)
}

// Resolve implements [store.Store].
func (s *Store) Resolve(ctx context.Context, key string, from store.Record, r store.Resolution) (store.Record, error) {
	if err := r.Validate(); err != nil {
		return store.Record{}, err
	}
	erased := []byte(nil)
	if r.Erase {
		erased = packInfo(store.Info{})
	}
	o := r.Outcome
	o.State = r.To
	args := []any{
		packKey(key), r.ID, string(r.To), r.By, r.Why, ttlArg(r.TTL), flag(r.Force), string(from.State), from.Revision, from.Fence,
		packOutcome(key, o), r.Who, erased, micros(store.TombstoneTTL),
	}
	return s.run(ctx, resolveVerb, call{bid: store.Bid{Key: key}}, args)
}

// Load implements [store.Store].
func (s *Store) Load(ctx context.Context, key string) (store.Record, error) {
	return s.run(ctx, loadVerb, call{bid: store.Bid{Key: key}}, nil)
}

// Kind implements [store.Kinded].
func (s *Store) Kind() string { return "redis" }

// List implements [store.Store]. It finds what is running, in doubt or pending in an
// index, and a record by its whole Digest at once. Any other query scans every key
// of the server, in steps.
func (s *Store) List(ctx context.Context, q store.Query) iter.Seq2[store.Record, error] {
	return s.lister.list(ctx, q)
}

// Reindex looks at every record, and has those that are running, in doubt or
// pending found by [Store.List]. The first listing of such records does so by
// itself. Call it after programs that know of no index have written, or after a
// backup of some of a Cluster's masters was restored. It changes no record, may run
// beside any other call, and starts anew if it was interrupted.
func (s *Store) Reindex(ctx context.Context) error { return s.index.rebuild(ctx) }

// Clear forgets every record under the store's prefix. It is for tests: effects
// may then happen again.
func (s *Store) Clear(ctx context.Context) error {
	for names, err := range s.keys.scan(ctx, "*") {
		if err == nil {
			err = s.keys.unlink(ctx, names)
		}
		if err != nil {
			return failure("clear", "", err)
		}
	}
	for names := range slices.Chunk(s.index.all(), pipelined) {
		if err := s.keys.unlink(ctx, names); err != nil {
			return failure("clear", "", err)
		}
	}
	return nil
}

// Check implements [store.Checker]: it refuses, with ErrUnsafe, a server that cannot run
// the store's scripts, by its name and version, or whose maxmemory-policy evicts
// records, even while maxmemory is unlimited, since that can change at run time. It
// refuses, with ErrDenied, a user that may not run one of the commands in the
// package's documentation. It answers ErrUnverified where the server does not let
// it look. On a Cluster it asks every master.
func (s *Store) Check(ctx context.Context) error {
	unverified := s.inspector.check(ctx)
	if unverified != nil && !errors.Is(unverified, store.ErrUnverified) {
		return failure("check", "", unverified)
	}
	if _, err := s.Load(ctx, "check"); err != nil {
		return err
	}
	if err := s.index.prepare(ctx); err != nil {
		return failure("check", s.index.whole, err)
	}
	if err := s.watcher.check(ctx); err != nil {
		return failure("check", "", err)
	}
	if unverified != nil {
		return failure("check", "", unverified)
	}
	return nil
}

// bid runs a verb of a claim; rest are the arguments after the bid's.
func (s *Store) bid(ctx context.Context, v verb, b store.Bid, o store.Outcome, rest ...any) (store.Record, error) {
	if err := b.Validate(); err != nil {
		return store.Record{}, err
	}
	args, err := bidArgs(b, rest)
	if err != nil {
		return store.Record{}, fmt.Errorf("store: redis: %s: %w", v.name, err)
	}
	return s.run(ctx, v, call{bid: b, outcome: o}, args)
}

func (s *Store) run(ctx context.Context, v verb, c call, args []any) (store.Record, error) {
	if err := ctx.Err(); err != nil {
		return store.Record{}, err
	}
	name := s.keys.name(c.bid.Key)
	return s.answer(ctx, v, c, name, s.index.eval(ctx, v, name, args...))
}

// answer is what cmd, a verb's script, says of the record of that name.
func (s *Store) answer(ctx context.Context, v verb, c call, name string, cmd *redis.Cmd) (store.Record, error) {
	reply, err := cmd.Slice()
	if err != nil {
		s.keys.reload(ctx, err)
		return store.Record{}, failure(v.name, name, s.rights.explain(ctx, name, err))
	}
	r, verdict, err := c.read(reply)
	if err == nil && s.replicas.count > 0 && v.stands(r, c.bid, verdict) {
		err = s.replicas.confirm(ctx, name, r)
	}
	if err != nil {
		return store.Record{}, failure(v.name, name, err)
	}
	return r, verdict
}

// inQuarantine refuses a key that has no record, for a while after a loss.
func (s *Store) inQuarantine(ctx context.Context, key string) error {
	until, lasts := s.watcher.quarantineEnd()
	if !lasts {
		return nil
	}
	r, err := s.Load(ctx, key)
	if err == nil && (r.State == store.Absent || r.State == store.Tombstone) {
		err = fmt.Errorf("store: redis: acquire: %w: until %s", store.ErrQuarantine, until.Format(time.RFC3339))
	}
	return err
}
