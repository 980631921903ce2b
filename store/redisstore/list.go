package redisstore

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"iter"
	"strings"

	"github.com/atmostonce/atmostonce/store"
)

// lister answers queries.
type lister struct {
	keys  keyspace
	index *redisIndex
}

// list is [Store.List].
func (l lister) list(ctx context.Context, q store.Query) iter.Seq2[store.Record, error] {
	part, whole, ok := digestName(q.Digest)
	return func(yield func(store.Record, error) bool) {
		switch state := q.OnlyState(); {
		case !ok:
			if err := ctx.Err(); err != nil {
				yield(store.Record{}, err) // no record has such a digest
			}
		case whole:
			l.named(ctx, q, []string{l.keys.prefix + "{" + part + "}"}, yield)
		case state.IsOpen():
			l.open(ctx, q, state, yield)
		default:
			for names, err := range l.keys.scan(ctx, part+"*") {
				if err != nil {
					yield(store.Record{}, failure("list", "", err))
					return
				}
				if !l.named(ctx, q, names, yield) {
					return
				}
			}
		}
	}
}

// named yields those of the named records that match, and reports whether the
// caller wants more.
func (l lister) named(ctx context.Context, q store.Query, names []string, yield func(store.Record, error) bool) bool {
	for i, cmd := range l.keys.loadAll(ctx, names) {
		r, err := l.keys.listed(names[i], cmd)
		if err == nil && (r.State == store.Absent || !q.Matches(r)) {
			continue
		}
		if err != nil && ctx.Err() != nil {
			yield(store.Record{}, ctx.Err())
			return false
		}
		if !yield(r, err) {
			return false
		}
	}
	return true
}

// open yields the records of an open state that match, oldest first.
func (l lister) open(ctx context.Context, q store.Query, state store.State, yield func(store.Record, error) bool) {
	x, err := readIndex(ctx, l.index, q)
	for err == nil {
		var entries []indexed
		if entries, err = x.next(ctx); len(entries) == 0 {
			break
		}
		records, errs := x.look(ctx, state, entries)
		if err = ctx.Err(); err != nil {
			break
		}
		for _, err := range errs {
			if !yield(store.Record{}, err) {
				return
			}
		}
		for _, r := range records {
			if q.Matches(r) && !yield(r, nil) {
				return
			}
		}
		err = ctx.Err()
	}
	if err != nil {
		yield(store.Record{}, err)
	}
}

// digestName returns how the name of a record whose digest begins so goes on after
// the prefix and the brace, and whether that is the whole digest. It reports false
// if no digest begins so.
func digestName(digest string) (part string, whole, ok bool) {
	whole = len(digest) == 2*sha256.Size
	known := len(digest) * 4 / 6 // characters of base64
	if len(digest)%2 != 0 {
		digest += "0"
	}
	sum, err := hex.DecodeString(digest)
	if err != nil || len(sum) > sha256.Size || strings.ToLower(digest) != digest {
		return "", false, false
	}
	part = base64.RawURLEncoding.EncodeToString(sum)
	return part[:min(known, nameDigits)], whole, true
}
