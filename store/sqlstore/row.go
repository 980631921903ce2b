package sqlstore

import (
	"crypto/sha256"
	"database/sql"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/atmostonce/atmostonce/store"
)

// row is a row of the table, and the database's clock when it was read. What is searched,
// and what the database's clock decides, has columns; the rest is in the body.
// All times are in microseconds since 1970.
type row struct {
	now      int64         // 0: nothing was read
	version  sql.NullInt64 // another one after each write; null: there is no row
	state    sql.NullString
	fence    sql.NullInt64
	revision sql.NullInt64
	since    sql.NullInt64 // Record.Since
	leaseEnd sql.NullInt64
	deadline sql.NullInt64
	expires  sql.NullInt64 // null: never
	body     []byte
}

// fields are what a statement that reads a row returns, in its order.
func (r *row) fields() []any {
	return []any{&r.now, &r.version, &r.state, &r.fence, &r.revision, &r.since, &r.leaseEnd, &r.deadline, &r.expires, &r.body}
}

func (r *row) exists() bool { return r.version.Valid }

// hasExpired reports whether the row counts as none.
func (r *row) hasExpired() bool { return r.expires.Valid && r.expires.Int64 <= r.now }

// newRow is the row of a record that is to be written.
func newRow(r store.Record) (row, error) {
	if r.Fence > math.MaxInt64 || r.Revision > math.MaxInt64 {
		return row{}, fmt.Errorf("%w: a fence or a revision over 2^63", store.ErrInvalid)
	}
	n := row{
		version: newVersion(), state: sql.NullString{String: string(r.State), Valid: true},
		fence: sql.NullInt64{Int64: int64(r.Fence), Valid: true}, revision: sql.NullInt64{Int64: int64(r.Revision), Valid: true},
		since: micros(r.Since()), leaseEnd: micros(r.LeaseEnd), deadline: micros(r.Deadline), expires: micros(r.Expires),
	}
	var err error
	n.body, err = encode(r)
	return n, err
}

// encode is the body of a record's row: all that has no column.
func encode(r store.Record) ([]byte, error) {
	*since(&r) = time.Time{}
	r.State, r.Fence, r.Revision = store.Absent, 0, 0
	r.LeaseEnd, r.Deadline, r.Expires = time.Time{}, time.Time{}, time.Time{}
	return store.EncodeRecord(r)
}

// since is the field of r that r.Since returns.
func since(r *store.Record) *time.Time {
	switch r.State {
	case store.Running:
		return &r.Claimed
	case store.InDoubt:
		return &r.Doubted
	default:
		return &r.Settled
	}
}

// record is what the row says: the zero Record if there is none. It is the record of that
// key, or, if key is empty, of any.
func (r *row) record(key string) (store.Record, error) {
	if !r.exists() {
		return store.Record{}, nil
	}
	record, err := store.DecodeRecord(r.body)
	if err != nil {
		return store.Record{}, err
	}
	record.State = store.State(r.state.String)
	record.Fence, record.Revision = uint64(r.fence.Int64), uint64(r.revision.Int64)
	*since(&record) = fromNull(r.since)
	record.LeaseEnd, record.Deadline, record.Expires = fromNull(r.leaseEnd), fromNull(r.deadline), fromNull(r.expires)
	record.Now = fromMicros(r.now)
	if key != "" && record.Key != key {
		return store.Record{}, fmt.Errorf("%w: another key", store.ErrCorrupt)
	}
	return record, record.Validate()
}

// newVersion is unlike any before: a row that was removed and made again is another one.
func newVersion() sql.NullInt64 { return sql.NullInt64{Int64: rand.Int64(), Valid: true} }

func digestOf(key string) []byte {
	sum := sha256.Sum256([]byte(key))
	return sum[:]
}

// rounded returns r with the times that a row keeps.
func rounded(r store.Record) store.Record {
	r.LeaseEnd, r.Deadline, r.Expires = fromNull(micros(r.LeaseEnd)), fromNull(micros(r.Deadline)), fromNull(micros(r.Expires))
	return r
}

func micros(t time.Time) sql.NullInt64 {
	return sql.NullInt64{Int64: t.UnixMicro(), Valid: !t.IsZero()}
}

func fromNull(n sql.NullInt64) time.Time {
	if !n.Valid {
		return time.Time{}
	}
	return fromMicros(n.Int64)
}

func fromMicros(n int64) time.Time { return time.UnixMicro(n).UTC() }
