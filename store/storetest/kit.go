package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/atmostonce/atmostonce/store"
)

// The suite's ordinary key, lease and TTL: what a case does not wait for never
// ends while it runs.
const (
	theKey    = "v1/default/wf-order-7/ChargeCard/1"
	longLease = time.Minute
	longTTL   = 24 * time.Hour
	// shortLease is used where the claim's owner is to die.
	shortLease = 20 * time.Millisecond
)

// bid returns a claim of nonce owner to theKey.
func bid(owner string) store.Bid {
	return store.Bid{
		Key: theKey, Owner: owner, Lease: longLease, TTL: longTTL, Began: true,
		Info: store.Info{Activity: "ChargeCard", Holder: store.Holder{WorkflowID: "order-" + owner, Attempt: 1}},
	}
}

func succeeded(data string) store.Outcome {
	return store.Outcome{State: store.Succeeded, Data: []byte(data), Context: "json"}
}

func failed(data string) store.Outcome {
	return store.Outcome{State: store.Failed, Data: []byte(data), Context: "failure"}
}

// doubtful is a doubt whose owner says why.
func doubtful(data string) store.Outcome {
	return store.Outcome{State: store.InDoubt, Data: []byte(data), Context: "failure"}
}

var (
	inDoubt = store.Outcome{State: store.InDoubt}
	pending = store.Outcome{State: store.Pending}
)

// decide returns an operator's resolution.
func decide(id string, to store.State) store.Resolution {
	r := store.Resolution{ID: id, To: to, By: store.ByOperator, Who: "ann", Why: "asked the bank", TTL: longTTL}
	if to != store.Tombstone {
		r.Outcome = store.Outcome{Data: []byte("by hand"), Context: "json"}
	}
	return r
}

// erase returns an operator's erasure.
func erase(id string) store.Resolution {
	r := decide(id, store.Tombstone)
	r.Erase = true
	return r
}

// A kit is what a case works with.
type kit struct {
	testing.TB
	h   Harness
	why string
	ctx context.Context
	s   store.Store // the first handle
}

func (k *kit) open() store.Store {
	k.Helper()
	return k.h.Open(k.TB)
}

func (k *kit) pass(d time.Duration) {
	k.Helper()
	k.h.Pass(k.TB, d)
}

// fail ends the case.
func (k *kit) fail(format string, args ...any) {
	k.Helper()
	k.Fatalf("%s\nThe contract: %s", fmt.Sprintf(format, args...), k.why)
}

// that fails the case if ok is false.
func (k *kit) that(ok bool, format string, args ...any) {
	k.Helper()
	if !ok {
		k.fail(format, args...)
	}
}

// ok passes on what a call returned without an error.
func (k *kit) ok(r store.Record, err error) store.Record {
	k.Helper()
	k.that(err == nil, "unexpected error: %v", err)
	return r
}

// answer checks the error of a call. Its result takes what the call returned.
func (k *kit) answer(want error) func(store.Record, error) store.Record {
	return func(r store.Record, err error) store.Record {
		k.Helper()
		k.that(errors.Is(err, want), "the error is %v, want %v", err, want)
		return r
	}
}

// is checks a record's state and owner.
func (k *kit) is(r store.Record, state store.State, owner string) {
	k.Helper()
	k.that(r.State == state && r.Owner == owner,
		"the record is %q of %q, want %q of %q", r.State, r.Owner, state, owner)
}

// holds checks the outcome of a record.
func (k *kit) holds(r store.Record, want store.Outcome) {
	k.Helper()
	k.that(r.State == want.State, "the record is %q, want %q", r.State, want.State)
	k.that(sameOutcome(r.Outcome, want), "the outcome is %s, want %s", show(r.Outcome), show(want))
}

func (k *kit) load(key string) store.Record {
	k.Helper()
	return k.ok(k.s.Load(k.ctx, key))
}

// unchanged checks that the record of before still stands, in the answer of a
// call and in the store.
func (k *kit) unchanged(before, answered store.Record) {
	k.Helper()
	k.that(before.State != store.Absent, "the case compares with no record")
	diff := difference(before, answered)
	k.that(diff == "", "a call that changes nothing answered another record: %s", diff)
	diff = difference(before, k.load(before.Key))
	k.that(diff == "", "a call that changes nothing changed the record: %s", diff)
}

// grant acquires the key for b and sets b's fence.
func (k *kit) grant(s store.Store, b *store.Bid) store.Record {
	k.Helper()
	r := k.ok(s.Acquire(k.ctx, *b))
	k.that(r.Owned(b.Owner), "Acquire was not granted: the record is %q of %q", r.State, r.Owner)
	b.Fence = r.Fence
	return r
}

// granted returns a claim that has the key.
func (k *kit) granted(owner string) store.Bid {
	k.Helper()
	b := bid(owner)
	k.grant(k.s, &b)
	return b
}

// dead returns a claim to the key whose process has died, its record not marked
// yet.
func (k *kit) dead(owner string) store.Bid {
	k.Helper()
	b, s := bid(owner), k.open()
	b.Lease = shortLease
	k.grant(s, &b)
	k.h.Die(k.TB, s, shortLease)
	b.Lease = longLease
	return b
}

// marked returns a claim to the key whose process has died, and its record,
// which an Acquire has marked.
func (k *kit) marked(owner string) (store.Bid, store.Record) {
	k.Helper()
	b := k.dead(owner)
	r := k.ok(k.s.Acquire(k.ctx, bid("marks-"+owner)))
	k.is(r, store.InDoubt, owner)
	k.that(r.Marked, "a doubt that the store found is not Marked")
	return b, r
}

// doubted returns a claim that declared its doubt, and its record.
func (k *kit) doubted(owner string) (store.Bid, store.Record) {
	k.Helper()
	b := k.granted(owner)
	return b, k.ok(k.s.Settle(k.ctx, b, inDoubt))
}

// took returns a claim that has taken the key over from the record from.
func (k *kit) took(owner string, from store.Record, clean bool) store.Bid {
	k.Helper()
	b := bid(owner)
	b.Clean = clean
	r := k.ok(k.s.Takeover(k.ctx, b, from))
	k.that(r.Owned(owner), "Takeover was not granted: the record is %q of %q", r.State, r.Owner)
	b.Fence = r.Fence
	return b
}

// superseded returns a claim a, in doubt, and b, which has taken over from it.
func (k *kit) superseded(clean bool) (a, b store.Bid) {
	k.Helper()
	a, r := k.doubted("a")
	return a, k.took("b", r, clean)
}

// event returns the last event of that kind about owner, or fails.
func (k *kit) event(r store.Record, what, owner string) store.Turn {
	k.Helper()
	for i := len(r.History) - 1; i >= 0; i-- {
		if e := r.History[i]; e.What == what && e.Owner == owner {
			return e
		}
	}
	k.fail("the history has no event %q about %q: %+v", what, owner, r.History)
	return store.Turn{}
}

// extends checks that all events of before are still there.
func (k *kit) extends(now, before []store.Turn) {
	k.Helper()
	diff := differentHistory(before, now[:min(len(before), len(now))])
	k.that(diff == "", "%s", diff)
}

func sameOutcome(a, b store.Outcome) bool {
	return a.State == b.State && bytes.Equal(a.Data, b.Data) && a.Context == b.Context && a.Missing == b.Missing && a.InLedger == b.InLedger
}

func show(o store.Outcome) string {
	data := fmt.Sprintf("%d bytes", len(o.Data))
	if len(o.Data) <= 64 {
		data = fmt.Sprintf("%q", o.Data)
	}
	ledger := ""
	if o.InLedger {
		ledger = ", in the ledger"
	}
	return fmt.Sprintf("{%q data %s context %q missing %q%s}", o.State, data, o.Context, o.Missing, ledger)
}

// difference says what a record's write has changed, clocks excepted; empty if
// nothing.
func difference(a, b store.Record) string {
	switch {
	case a.State != b.State || a.Owner != b.Owner:
		return fmt.Sprintf("%q of %q, was %q of %q", b.State, b.Owner, a.State, a.Owner)
	case a.Fence != b.Fence:
		return fmt.Sprintf("fence %d, was %d", b.Fence, a.Fence)
	case a.Revision != b.Revision:
		return fmt.Sprintf("revision %d, was %d", b.Revision, a.Revision)
	case a.Generation != b.Generation:
		return fmt.Sprintf("generation %d, was %d", b.Generation, a.Generation)
	case a.Marked != b.Marked || a.Origin != b.Origin || a.Forgotten != b.Forgotten || a.By != b.By:
		return fmt.Sprintf("marked %v, origin %q, forgotten %v, by %q, was %v, %q, %v, %q",
			b.Marked, b.Origin, b.Forgotten, b.By, a.Marked, a.Origin, a.Forgotten, a.By)
	case !a.Claimed.Equal(b.Claimed) || !a.Settled.Equal(b.Settled) || !a.Doubted.Equal(b.Doubted):
		return fmt.Sprintf("claimed %v, settled %v, doubted %v, was %v, %v, %v",
			b.Claimed, b.Settled, b.Doubted, a.Claimed, a.Settled, a.Doubted)
	case !sameOutcome(a.Outcome, b.Outcome):
		return fmt.Sprintf("outcome %s, was %s", show(b.Outcome), show(a.Outcome))
	case (a.Kept == nil) != (b.Kept == nil):
		return fmt.Sprintf("kept %v, was %v", b.Kept != nil, a.Kept != nil)
	case a.Kept != nil && !sameOutcome(*a.Kept, *b.Kept):
		return fmt.Sprintf("kept %s, was %s", show(*b.Kept), show(*a.Kept))
	}
	if d := differentInfo(a.Info, b.Info); d != "" {
		return d
	}
	return differentHistory(a.History, b.History)
}

// generation checks that r is after n reopenings.
func (k *kit) generation(r store.Record, n uint64) store.Record {
	k.Helper()
	k.that(r.Generation == n, "generation %d after %d reopenings of a success", r.Generation, n)
	return r
}

func differentInfo(a, b store.Info) string {
	equal := a.Holder.Scheduled.Equal(b.Holder.Scheduled)
	b.Holder.Scheduled = a.Holder.Scheduled
	if !equal || a != b {
		return fmt.Sprintf("info %+v, was %+v", b, a)
	}
	return ""
}

func differentHistory(a, b []store.Turn) string {
	equal := len(a) == len(b)
	for i := range min(len(a), len(b)) {
		e, f := a[i], b[i]
		equal = equal && e.At.Equal(f.At)
		f.At = e.At
		equal = equal && e == f
	}
	if !equal {
		return fmt.Sprintf("history %+v, was %+v", b, a)
	}
	return ""
}
