package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"time"

	"github.com/atmostonce/atmostonce/store"
)

// maxHeld bounds what is remembered of claims that have not come to an end.
const maxHeld = 100_000

// held remembers the rows of the claims that were made through this handle, so that a
// renewal and a settle need not read them first: they take effect only if the row is
// still the one that is remembered.
type held struct {
	mu   sync.Mutex
	rows map[string]holding // by nonce
}

type holding struct {
	record  store.Record // Running
	version int64
}

// put remembers what a claim of this handle has written, or that the claim has ended.
func (h *held) put(r store.Record, version int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.set(r, version)
}

// touched remembers that a duplicate has kept the row longer, if its owner is of this
// handle.
func (h *held) touched(r store.Record, version int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ours := h.rows[r.Owner]; ours {
		h.set(r, version)
	}
}

func (h *held) set(r store.Record, version int64) {
	if r.State != store.Running || r.Kept != nil {
		delete(h.rows, r.Owner)
		return
	}
	if h.rows == nil {
		h.rows = map[string]holding{}
	}
	if len(h.rows) >= maxHeld {
		clear(h.rows) // each is read again when it is needed
	}
	h.rows[r.Owner] = holding{r, version}
}

// take returns what is remembered of the bid's claim, and forgets it.
func (h *held) take(b store.Bid) (holding, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	x, ok := h.rows[b.Owner]
	delete(h.rows, b.Owner)
	return x, ok && x.record.Key == b.Key && (b.Fence == 0 || b.Fence == x.record.Fence)
}

// claim grants a key that has no row, in one statement, or goes on from the row that is
// there.
func (s *Store) claim(ctx context.Context, b store.Bid, t store.Transition) (store.Record, error) {
	// All that depends on the clock is in columns, so that any time will do.
	blank, _, err := t.Apply(store.Record{}, time.UnixMicro(1))
	if err != nil {
		return store.Record{}, err
	}
	next, err := newRow(blank)
	if err != nil {
		return store.Record{}, s.failure("acquire", err)
	}
	var found row
	var made bool
	err = s.retry(ctx, func() error {
		found, made = row{}, false
		return s.db.QueryRowContext(ctx, s.dialect.claim, digestOf(b.Key), next.version, length(b.Lease), deadlineIn(b.Deadline), keptFor(b.TTL), next.body).
			Scan(append([]any{&made}, found.fields()...)...)
	})
	switch {
	case err != nil:
		return store.Record{}, s.failure("acquire", err)
	case made:
		r, _, err := t.Apply(store.Record{}, fromMicros(found.now))
		r = rounded(r)
		s.held.put(r, next.version.Int64)
		s.sweeper.sometimes()
		return r, err
	case !found.exists():
		found = row{} // somebody was faster, and cannot be seen in this statement yet
	}
	return s.decide(ctx, "acquire", t, found)
}

// renewHeld renews a claim whose row is remembered.
func (s *Store) renewHeld(ctx context.Context, b store.Bid) (r store.Record, ok bool, err error) {
	if s.dialect.renew == "" {
		return r, false, nil
	}
	x, ok := s.held.take(b)
	if !ok {
		return r, false, nil
	}
	version := newVersion()
	var now int64
	var leaseEnd, expires sql.NullInt64
	ok, err = s.amend(ctx, "renew", s.dialect.renew, []any{version, length(b.Lease), keptFor(b.TTL), digestOf(b.Key), x.version}, &now, &leaseEnd, &expires)
	if !ok || err != nil {
		return r, false, err
	}
	r = x.record
	r.Revision++
	r.Now, r.LeaseEnd, r.Expires = fromMicros(now), fromNull(leaseEnd), fromNull(expires)
	s.held.put(r, version.Int64)
	return r, true, nil
}

// settleHeld settles a claim whose row is remembered, if nothing but the clock is needed
// to know what comes of it.
func (s *Store) settleHeld(ctx context.Context, b store.Bid, t store.Transition) (r store.Record, ok bool, err error) {
	if s.dialect.settle == "" {
		return r, false, nil
	}
	x, ok := s.held.take(b)
	if !ok {
		return r, false, nil
	}
	// The times that it gets here are the columns', which the database sets.
	after, changed, verdict := t.Apply(x.record, x.record.Now)
	if changed && verdict == nil && len(after.History) == len(x.record.History) {
		return s.settleRow(ctx, b, after, x.version)
	}
	return r, false, nil // the whole way shows why
}

// settleRow writes after in the place of the row of that version.
func (s *Store) settleRow(ctx context.Context, b store.Bid, after store.Record, version int64) (r store.Record, ok bool, err error) {
	next, err := newRow(after)
	if err != nil {
		return r, false, s.failure("settle", err)
	}
	var now int64
	var expires sql.NullInt64
	ok, err = s.amend(ctx, "settle", s.dialect.settle,
		[]any{next.version, next.state, next.revision, keptFor(b.TTL), next.body, digestOf(b.Key), version}, &now, &expires)
	if !ok || err != nil {
		return r, false, err
	}
	after.Now, after.Expires = fromMicros(now), fromNull(expires)
	*since(&after) = after.Now
	return after, true, nil
}

// amend runs a statement that changes a remembered row and returns what the clock made of
// it. It reports false if the row is another by now.
func (s *Store) amend(ctx context.Context, verb, statement string, args []any, into ...any) (ok bool, err error) {
	err = s.retry(ctx, func() error {
		return s.db.QueryRowContext(ctx, statement, args...).Scan(into...)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, s.failure(verb, err)
}

// length is a duration in microseconds, rounded up.
func length(d time.Duration) int64 { return int64((d + time.Microsecond - 1) / time.Microsecond) }

// deadlineIn is how long from now the deadline is; null if there is none.
func deadlineIn(d time.Duration) sql.NullInt64 { return sql.NullInt64{Int64: length(d), Valid: d > 0} }

// keptFor is how long from now a record is kept that is new; null if forever.
func keptFor(ttl time.Duration) sql.NullInt64 {
	if ttl > store.LongestTTL {
		return sql.NullInt64{}
	}
	return sql.NullInt64{Int64: length(ttl + ttl/16), Valid: true}
}
