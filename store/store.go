// Package store keeps one record per key: who may act on it, and what came of
// the act.
//
// A [Store] is dumb and atomic: it never decides what a duplicate gets. That is
// the guard's business (package interceptor). What every store must do is
// written on the interface and checked by package storetest.
//
// Three stores come with the package.
//
//   - [Memory]: one process; forgets everything when that process ends.
//   - [File]: a directory shared by the processes of one host.
//   - [Redis]: one Redis server shared by everything that reaches it.
package store

import (
	"context"
	"errors"
	"iter"
	"math"
	"time"
)

// Forever as a TTL keeps a record until an operator removes it.
const Forever = time.Duration(math.MaxInt64)

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
// a first run's release leaves a record as short-lived as [TombstoneTTL].
//
// Every write raises Record.Revision. Every method that returns a nil error, or
// one of ErrSuperseded, ErrConflict and ErrMoved, returns the record as it
// stands after the call. Any other error means that the caller does not know
// whether the call was applied, ErrCorrupt, ErrVersion, ErrFull and ErrInvalid
// excepted: those say that it was not.
//
// Methods may be called from any number of goroutines.
type Store interface {
	// Acquire asks for the key. The bid has it if and only if the returned
	// record is Running and owned by Bid.Owner.
	//
	// A key without a record, or with a tombstone, is granted. A running record
	// whose lease is over is marked InDoubt and returned; it is never taken
	// over here. Any other record is returned as it is. A nonce that was
	// released, superseded or reopened is refused with ErrSuperseded.
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
	// state, the revision and the fence of from; else ErrMoved. A running record is
	// resolved only if Resolution.Force is set.
	Resolve(ctx context.Context, key string, from Record, r Resolution) (Record, error)

	// Load returns the record of key; its State is Absent if there is none.
	Load(ctx context.Context, key string) (Record, error)

	// List yields the records that match, in no order. A record that changes
	// meanwhile may be yielded in either shape, or twice. A record that cannot
	// be read is yielded as an error, and the listing goes on.
	List(ctx context.Context, q Query) iter.Seq2[Record, error]
}

// Checker is implemented by stores that can tell before the first call that
// they cannot keep their promise. The guard asks once at each worker start and
// refuses to start on an error.
type Checker interface {
	Check(ctx context.Context) error
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
	// ErrUnverified: Checker.Check was not allowed to look. The guard warns, and
	// starts.
	ErrUnverified = errors.New("store: set-up not verified")
	// ErrUnsafe: the store, as it is set up, would lose records.
	ErrUnsafe = errors.New("store: unsafe set-up")
)
