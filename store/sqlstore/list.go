package sqlstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"iter"
	"slices"
	"strings"

	"github.com/atmostonce/atmostonce/store"
)

// A page has at most so many rows, which the statements say, and, but for one row, bytes.
const (
	pageRows  = 256
	pageBytes = 8 << 20
)

// lister answers queries.
type lister struct{ table }

// list is [Store.List].
func (x lister) list(ctx context.Context, q store.Query) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		if err := ctx.Err(); err != nil {
			yield(store.Record{}, err)
			return
		}
		low, high, ok := digestRange(q.Digest)
		if !ok {
			return // no record has such a digest
		}
		l := &listing{lister: x, q: q, low: low, high: high, yield: yield}
		if state := q.OnlyState(); state.IsOpen() {
			l.inState(ctx, state)
		} else {
			l.all(ctx)
		}
	}
}

// listing is one listing under way.
type listing struct {
	lister
	q         store.Query
	low, high []byte // digests
	yield     func(store.Record, error) bool
}

// all yields what matches, in the order of digests.
func (l *listing) all(ctx context.Context) {
	last := []byte{}
	for {
		rows, more, err := l.page(ctx, l.dialect.byName, last, l.low, l.high)
		if err != nil {
			l.yield(store.Record{}, err)
			return
		}
		for i := range rows {
			if last = rows[i].digest; !l.one(rows[i].record("")) {
				return
			}
		}
		if !more {
			return
		}
	}
}

// inState yields the records of an open state that match, oldest first. The index has
// those of one moment by digest, and they are to come by key.
func (l *listing) inState(ctx context.Context, state store.State) {
	since, last := int64(-1<<62), []byte{}
	if l.q.After.State != store.Absent {
		since = l.q.After.Since().UnixMicro() - 1
		last = bytes.Repeat([]byte{0xff}, sha256.Size+1)
	}
	var moment []store.Record
	flush := func() bool {
		slices.SortFunc(moment, store.Record.Compare)
		for _, r := range moment {
			if !l.one(r, nil) {
				return false
			}
		}
		moment = moment[:0]
		return true
	}
	for {
		args := []any{string(state), since, since, last, l.low, l.high}
		if l.dialect.name == PostgreSQL {
			args = slices.Delete(args, 1, 2) // it compares both at once
		}
		rows, more, err := l.page(ctx, l.dialect.byState, args...)
		if err != nil {
			l.yield(store.Record{}, err)
			return
		}
		for i := range rows {
			if rows[i].since.Int64 != since && !flush() {
				return
			}
			since, last = rows[i].since.Int64, rows[i].digest
			r, err := rows[i].record("")
			if err == nil {
				moment = append(moment, r)
			} else if !l.one(r, err) {
				return
			}
		}
		if !more {
			flush()
			return
		}
	}
}

// one yields a record if it matches, and reports whether the caller wants more.
func (l *listing) one(r store.Record, err error) bool {
	if err != nil {
		return l.yield(store.Record{}, l.failure("list", err))
	}
	return !l.q.Matches(r) || l.yield(r, nil)
}

// listed is a row of a page.
type listed struct {
	row
	digest []byte
}

// page reads a page, and reports whether there may be more.
func (x lister) page(ctx context.Context, statement string, args ...any) (page []listed, more bool, err error) {
	err = x.retry(ctx, func() error {
		page, more, err = x.readPage(ctx, statement, args)
		return err
	})
	if err == nil {
		err = ctx.Err()
	}
	if err != nil && ctx.Err() == nil {
		err = x.failure("list", err)
	}
	return page, more, err
}

func (x lister) readPage(ctx context.Context, statement string, args []any) (page []listed, more bool, err error) {
	rows, err := x.db.QueryContext(ctx, statement, args...)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = rows.Close() }()
	for size := 0; rows.Next(); {
		var l listed
		if err := rows.Scan(append(l.fields(), &l.digest)...); err != nil {
			return nil, false, err
		}
		page = append(page, l)
		if size += len(l.body); size > pageBytes {
			return page, true, nil
		}
	}
	return page, len(page) == pageRows, rows.Err()
}

// digestRange returns the first and the last digest that begins so; false if none does.
func digestRange(prefix string) (low, high []byte, ok bool) {
	if len(prefix) > 2*sha256.Size || strings.ToLower(prefix) != prefix {
		return nil, nil, false
	}
	pad := 2*sha256.Size - len(prefix)
	low, err := hex.DecodeString(prefix + strings.Repeat("0", pad))
	if err != nil {
		return nil, nil, false
	}
	high, _ = hex.DecodeString(prefix + strings.Repeat("f", pad))
	return low, high, true
}
