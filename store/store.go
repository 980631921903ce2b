package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"time"
)

// Forever as a TTL keeps a record until an operator removes it.
const Forever = time.Duration(math.MaxInt64)

// LongestTTL, a century, is the longest TTL that ends. A store takes a longer one
// for [Forever].
const LongestTTL = 100 * 365 * 24 * time.Hour

// TombstoneTTL is how long a released key remembers its last owner's nonce and
// fence, so that a delayed duplicate of that owner's calls is recognized.
const TombstoneTTL = time.Hour

// Store keeps one record per key.
//
// Every method is atomic across all processes that share the store, and
// idempotent per nonce: a call repeated because its reply was lost gets the
// same answer and changes nothing more. Time is asked of the store's own clock
// only; no method compares a caller's clock with the store's.
//
// Expiry of a lease is never expiry of a record. Each write keeps the record at
// least Bid.TTL longer and never shortens what an earlier write promised; only
// a first run's release, and an erasure, leave a record as short-lived as
// [TombstoneTTL].
//
// Every write raises Record.Revision. Every method that returns a nil error, or
// one of ErrSuperseded, ErrConflict and ErrMoved, returns the record as it
// stands after the call. ErrCorrupt, ErrVersion, ErrFull and ErrInvalid say that
// the call was not applied. After any other error the caller does not know whether
// it was.
//
// Methods may be called from any number of goroutines.
type Store interface {
	// Acquire asks for the key. The bid has it if and only if the returned
	// record is Running and owned by Bid.Owner.
	//
	// A key without a record, or with a tombstone, is granted. A running record
	// whose lease is over is marked InDoubt and returned; it is never taken
	// over here. If an owner got no answer, a store may consider its lease over at
	// once. Any other record is returned as it is. A nonce that was
	// released, superseded, reopened or, before it settled, forgotten is refused
	// with ErrSuperseded.
	Acquire(ctx context.Context, b Bid) (Record, error)

	// Renew says that the owner is alive: it moves the lease's end to now +
	// Bid.Lease, and takes back a doubt that the store itself marked. Without a
	// record it answers ErrGone and creates none. If anybody else owns the
	// record, or the owner itself declared the doubt, ErrSuperseded.
	Renew(ctx context.Context, b Bid) (Record, error)

	// Settle writes what came of the act. Ownership is judged by nonce and
	// fence, never by time: an owner that comes late, and that nobody has
	// superseded, is heard.
	//
	// Without a record it creates one from the bid and sets Record.Forgotten.
	// A superseded owner's success is never thrown away: it settles a tombstone
	// or a record in doubt, waits as Record.Kept beside a running one, and is
	// noted in the history of a settled one; the answer is ErrConflict in each
	// case. Anything else from a superseded owner is answered ErrSuperseded.
	Settle(ctx context.Context, b Bid, o Outcome) (Record, error)

	// Release says that this claim did nothing. It leaves a tombstone after a
	// first run, and after a run that began on a clean takeover; any other
	// takeover returns to InDoubt, for its predecessor. Without a record it
	// leaves a tombstone, so that a delayed Acquire of the same nonce is
	// refused. A bid without a fence goes by its nonce.
	Release(ctx context.Context, b Bid) (Record, error)

	// Takeover gives the key to the bid if the record still has the state, the
	// revision and the fence of from, and is InDoubt or Pending; else ErrMoved.
	Takeover(ctx context.Context, b Bid, from Record) (Record, error)

	// Resolve writes a decision that no owner made, if the record still has the
	// state, the revision and the fence of from; else ErrMoved. What is in doubt or
	// pending is decided; what succeeded or failed is corrected, or reopened by
	// Tombstone; a running record is resolved only if Resolution.Force is set. A
	// tombstone is only erased, and what is in doubt or pending is erased only if
	// Force is set.
	//
	// The decision stands against the owner: its first success, if it had not
	// settled yet, is noted in the history as a conflict; but it settles a
	// tombstone, an erased one too, since it is the only evidence of the effect.
	Resolve(ctx context.Context, key string, from Record, r Resolution) (Record, error)

	// Load returns the record of key; its State is Absent if there is none.
	Load(ctx context.Context, key string) (Record, error)

	// List yields the records that match. Those of one open state, if Query.State is
	// Running, InDoubt or Pending, come oldest first by [Record.Since], and are
	// found without a look at those that are settled; a caller that has enough
	// stops, and goes on later with Query.After. Any other query looks at all
	// records, and yields them in no order. A record that changes meanwhile may be
	// yielded in either shape, or twice. A record that cannot be read is yielded as
	// an error, and the listing goes on.
	List(ctx context.Context, q Query) iter.Seq2[Record, error]
}

// Checker is implemented by stores that can detect unsafe settings or lost records.
// The guard asks at each worker start, and from time to time while calls come in.
type Checker interface {
	// Check reports what is wrong with the store, and what has happened to it since
	// the last Check: ErrForgot and ErrReplaced come once. At start the guard
	// warns of these two and of ErrUnverified, and refuses to start on any other
	// error; later it notifies its observers of these two and of ErrUnsafe.
	Check(ctx context.Context) error
}

// Kinded is implemented by stores that say what kind of store they are. The kind is
// the value of the metric label atmostonce.store.type, and is in logs and events. A
// store without it is of the kind "other".
type Kinded interface {
	// Kind returns one short word in lower case, the same at every call and for all
	// stores of that kind: "memory", "file", "redis", "postgres", "mysql" and "sqlite"
	// are those of this module.
	Kind() string
}

// OwnerWatcher is implemented by stores that may know without a look at the clock
// that an owner is dead. The guard asks when it judges whether a retry policy leaves
// room for a takeover after the death of a worker.
type OwnerWatcher interface {
	// SeesDeath reports whether the store marks the doubt at the first Acquire after
	// the owner's process has died, so that a takeover need not wait for the end of
	// the lease. A store without it is taken to wait for that. The answer is the same
	// at every call.
	SeesDeath() bool
}

// Notifier is implemented by stores that say at once that a record may have changed. A
// call that waits for a key then looks again, instead of at its next poll.
type Notifier interface {
	// Notify sends to changed, without blocking, soon after each write to the record
	// of key that may end a wait: its settlement, release, takeover, decision or
	// erasure, by any process. A value says "look again", and nothing else: it may
	// come twice, for nothing, or never. So whoever waits polls as well. Nothing is
	// sent after stop has returned; stop may be called more than once.
	Notify(key string, changed chan<- struct{}) (stop func())
}

// BatchRenewer is implemented by stores that renew many claims in fewer round trips
// than one for each.
type BatchRenewer interface {
	// RenewAll renews each of the bids as Renew does, and returns the answers in
	// their order. One that fails has no part in the others.
	RenewAll(ctx context.Context, bids []Bid) []Renewed
}

// Renewed is what Renew returned for one bid.
type Renewed struct {
	Record Record
	Err    error
}

// Errors of the protocol. All others mean that the store could not be asked.
var (
	// ErrSuperseded: the bid's nonce does not own the record (any more).
	ErrSuperseded = errors.New("store: claim superseded")
	// ErrConflict: as ErrSuperseded, and the success that came too late is kept
	// in the record as evidence of two executions.
	ErrConflict = errors.New("store: claim superseded, its success is kept as evidence of two executions")
	// ErrGone: there is no record to renew.
	ErrGone = errors.New("store: the record is gone")
	// ErrMoved: the record is not as it was when the caller read it.
	ErrMoved = errors.New("store: the record has changed since it was read")
	// ErrVersion: a newer program wrote the record.
	ErrVersion = errors.New("store: record has an unknown version")
	// ErrCorrupt: the record cannot be read. It is never taken for absent.
	ErrCorrupt = errors.New("store: record is corrupt")
	// ErrFull: the store is at its limit. It never evicts.
	ErrFull = errors.New("store: full")
	// ErrInvalid: a field of the call is missing or out of range.
	ErrInvalid = errors.New("store: invalid call")
	// ErrUnreplicated: too few replicas have confirmed the write, which is there
	// and may be lost. A claim is to be given back, a settle to be repeated.
	ErrUnreplicated = errors.New("store: too few replicas confirmed the write")
	// ErrQuarantine: records may have been lost a while ago, so that a key without
	// a record says little. Records that are there are answered.
	ErrQuarantine = errors.New("store: no new claims for a while after a loss of records")
	// ErrForgot: a server has lost what it had acknowledged. Effects whose records
	// are gone may happen again.
	ErrForgot = errors.New("store: records were lost")
	// ErrReplaced: a server was restarted, or another one has taken its place. What
	// it had not yet made durable, or replicated, is lost.
	ErrReplaced = errors.New("store: the server was restarted or replaced; its last writes may be lost")
	// ErrUnverified: Checker.Check was not allowed to look. The guard warns, and
	// starts.
	ErrUnverified = errors.New("store: set-up not verified")
	// ErrUnsafe: the store, as it is set up, would lose records.
	ErrUnsafe = errors.New("store: unsafe set-up")
	// ErrDenied, which is an ErrUnsafe too: the server's user may not run a command,
	// or not on the store's keys. No record says anything else than before.
	ErrDenied = fmt.Errorf("%w: rights are missing", ErrUnsafe)
)
