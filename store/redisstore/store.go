package redisstore

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	_ "embed" // the scripts
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"
	"sync"
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

	// Quarantine is for how long after a loss no key without a record is granted;
	// ErrQuarantine. It begins in each process with its Check that notices that a
	// server lost records or was replaced, and ends in all together. It should be
	// longer than the lease and the longest activity: what was underway
	// can then end, and write down again what the server has forgotten. Defaults
	// to 0: none.
	Quarantine time.Duration
}

// Store keeps records on a Redis server: a hash per key, and a script per verb,
// so that each call is one round trip and atomic. It asks only the server's
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
	client     redis.UniversalClient
	prefix     string
	replicas   int
	quarantine time.Duration
	index      redisIndex

	id string // of this handle

	mu          sync.Mutex
	beats       map[string]int64     // of each witness
	losses      map[string]time.Time // when each witness noticed its last one
	evicted     map[string]int64     // keys, by the server's run ID
	quarantined time.Time            // until when, by the local clock
}

var (
	_ store.Store   = (*Store)(nil)
	_ store.Checker = (*Store)(nil)
	_ store.Kinded  = (*Store)(nil)
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
	return &Store{
		client: client, prefix: o.Prefix, replicas: o.Replicas, quarantine: o.Quarantine,
		index: newRedisIndex(client, o.Prefix),
		id:    rand.Text(), beats: map[string]int64{}, losses: map[string]time.Time{}, evicted: map[string]int64{},
	}, nil
}

// verb is a script with the name that errors give it.
type verb struct {
	name    string
	script  *redis.Script
	claims  bool // grants the key
	decides bool // says what came of the act
}

// stands reports whether somebody acts on the answer because of what the call
// has written.
func (v verb) stands(r store.Record, b store.Bid, verdict error) bool {
	if v.claims {
		return r.Owned(b.Owner)
	}
	return v.decides && (verdict == nil || errors.Is(verdict, store.ErrConflict))
}

var (
	//go:embed lua/read.lua
	readLua string
	//go:embed lua/turns.lua
	turnsLua string
	//go:embed lua/open.lua
	openLua string
	//go:embed lua/quick_acquire.lua
	quickAcquireLua string
	//go:embed lua/quick_settle.lua
	quickSettleLua string
	//go:embed lua/bid.lua
	bidLua string
	//go:embed lua/acquire.lua
	acquireLua string
	//go:embed lua/renew.lua
	renewLua string
	//go:embed lua/settle.lua
	settleLua string
	//go:embed lua/release.lua
	releaseLua string
	//go:embed lua/takeover.lua
	takeoverLua string
	//go:embed lua/resolve.lua
	resolveLua string
	//go:embed lua/load.lua
	loadLua string
)

// allowOOM lets a script write at the memory limit: what is underway must come
// to its end. Scripts without it are refused there at their first write.
const allowOOM = "#!lua flags=allow-oom\n"

var (
	acquireVerb  = verb{name: "acquire", script: redis.NewScript(readLua + quickAcquireLua + openLua + turnsLua + bidLua + acquireLua), claims: true}
	renewVerb    = verb{name: "renew", script: redis.NewScript(allowOOM + readLua + openLua + turnsLua + bidLua + renewLua)}
	settleVerb   = verb{name: "settle", script: redis.NewScript(allowOOM + readLua + quickSettleLua + openLua + turnsLua + bidLua + settleLua), decides: true}
	releaseVerb  = verb{name: "release", script: redis.NewScript(allowOOM + readLua + openLua + turnsLua + bidLua + releaseLua)}
	takeoverVerb = verb{name: "takeover", script: redis.NewScript(readLua + openLua + turnsLua + bidLua + takeoverLua), claims: true}
	resolveVerb  = verb{name: "resolve", script: redis.NewScript(allowOOM + readLua + openLua + turnsLua + resolveLua), decides: true}
	loadVerb     = verb{name: "load", script: redis.NewScript("#!lua flags=no-writes\n" + readLua + loadLua)}
)

// Acquire implements [store.Store].
func (s *Store) Acquire(ctx context.Context, b store.Bid) (store.Record, error) {
	if err := s.inQuarantine(ctx, b.Key); err != nil {
		return store.Record{}, err
	}
	return s.bid(ctx, acquireVerb, b, store.Outcome{})
}

// Renew implements [store.Store].
func (s *Store) Renew(ctx context.Context, b store.Bid) (store.Record, error) {
	return s.bid(ctx, renewVerb, b, store.Outcome{})
}

// Settle implements [store.Store].
func (s *Store) Settle(ctx context.Context, b store.Bid, o store.Outcome) (store.Record, error) {
	if err := o.Validate(); err != nil {
		return store.Record{}, err
	}
	return s.bid(ctx, settleVerb, b, o, outcomeArgs(o)...)
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
	args := []any{
		key, r.ID, string(r.To), r.By, r.Why, ttlArg(r.TTL), flag(r.Force), string(from.State), from.Revision, from.Fence,
	}
	o := r.Outcome
	o.State = r.To
	args = append(args, outcomeArgs(o)[1:]...)
	erased := ""
	if r.Erase {
		erased = infoWords(store.Info{})
	}
	return s.run(ctx, resolveVerb, call{bid: store.Bid{Key: key}}, append(args, r.Who, erased, micros(store.TombstoneTTL)))
}

// Load implements [store.Store].
func (s *Store) Load(ctx context.Context, key string) (store.Record, error) {
	return s.run(ctx, loadVerb, call{bid: store.Bid{Key: key}}, []any{key})
}

// Kind implements [store.Kinded].
func (s *Store) Kind() string { return "redis" }

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
	name := s.name(c.bid.Key)
	reply, err := s.eval(ctx, v, name, args...).Slice()
	if err != nil {
		s.reload(ctx, err)
		return store.Record{}, s.fail(v.name, name, s.explain(ctx, name, err))
	}
	r, verdict, err := c.read(reply)
	if err == nil && s.replicas > 0 && v.stands(r, c.bid, verdict) {
		err = s.confirm(ctx, name, r)
	}
	if err != nil {
		return store.Record{}, s.fail(v.name, name, err)
	}
	return r, verdict
}

// reload has a Cluster's client look for the masters after an error that no server
// sent: it does so by itself only once a minute, or when a server sends it
// elsewhere, which a dead one does not.
func (s *Store) reload(ctx context.Context, err error) {
	var answered redis.Error
	if cluster, ok := s.client.(clustered); ok && !errors.As(err, &answered) {
		cluster.ReloadState(ctx)
	}
}

// name returns the Redis key of key. The braces are a Cluster's hash tag.
func (s *Store) name(key string) string {
	h := sha256.Sum256([]byte(key))
	return s.prefix + "{" + base64.RawURLEncoding.EncodeToString(h[:]) + "}"
}

// fail gives an error the store's sentinel, and says where the record is that it
// is about. It never shows a key in plain text.
func (s *Store) fail(doing, name string, err error) error {
	switch {
	case redis.HasErrorPrefix(err, "VERSION"):
		return fmt.Errorf("store: redis: %s %s: %w", doing, name, store.ErrVersion)
	case redis.HasErrorPrefix(err, "CORRUPT"), redis.HasErrorPrefix(err, "WRONGTYPE"):
		return fmt.Errorf("store: redis: %s %s: %w: %w", doing, name, store.ErrCorrupt, err)
	case errors.Is(err, store.ErrCorrupt):
		return fmt.Errorf("store: redis: %s %s: %w", doing, name, err)
	case forbidden(err) && !errors.Is(err, store.ErrDenied):
		return fmt.Errorf("store: redis: %s: %w: %w", doing, store.ErrDenied, err)
	case redis.HasErrorPrefix(err, "OOM"):
		return fmt.Errorf("store: redis: %s: %w: %w", doing, store.ErrFull, err)
	case redis.HasErrorPrefix(err, "WRONGPASS"), redis.HasErrorPrefix(err, "NOAUTH"),
		redis.HasErrorPrefix(err, "Protocol error: unauthenticated"): // to a call of many arguments
		return fmt.Errorf("store: redis: %s: set Username and Password in the client's options: %w", doing, err)
	}
	return fmt.Errorf("store: redis: %s: %w", doing, err)
}
