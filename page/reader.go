package page

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"

	"github.com/atmostonce/atmostonce/store"
)

// maxReads is how many reads of the store may be underway: one that hangs goes on after
// its page was sent.
const maxReads = 32

var errPanic = errors.New("the store panicked")

// reader reads the store, and stops waiting for it when a context ends, whether the store
// does or not.
type reader struct {
	store store.Store
	turns chan struct{}
}

func newReader(s store.Store) reader {
	return reader{s, make(chan struct{}, maxReads)}
}

// answer is one record of a listing.
type answer struct {
	r   store.Record
	err error
}

// start has read run on its own, if there is a turn before the context ends.
func (r reader) start(ctx context.Context, read func() error, end func(error)) error {
	select {
	case r.turns <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	go func() {
		defer func() { <-r.turns }()
		end(noPanic(read))
	}()
	return nil
}

func noPanic(read func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errPanic, p)
		}
	}()
	return read()
}

// list yields the records that match. The error of a record that cannot be read is not
// the last; see [isOne].
func (r reader) list(ctx context.Context, q store.Query) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		answers := make(chan answer, 64)
		send := func(a answer) error {
			select {
			case answers <- a:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		err := r.start(ctx, func() error {
			for record, err := range r.store.List(ctx, q) {
				if sent := send(answer{record, err}); sent != nil {
					return sent
				}
			}
			return nil
		}, func(err error) {
			if err != nil {
				_ = send(answer{err: err})
			}
			close(answers)
		})
		if err != nil {
			yield(store.Record{}, err)
			return
		}
		for {
			select {
			case a, more := <-answers:
				if !more || !yield(a.r, a.err) {
					return
				}
			case <-ctx.Done():
				yield(store.Record{}, ctx.Err())
				return
			}
		}
	}
}

// load returns the record of a key.
func (r reader) load(ctx context.Context, key string) (store.Record, error) {
	answers := make(chan answer, 1)
	var record store.Record
	err := r.start(ctx, func() (err error) {
		record, err = r.store.Load(ctx, key)
		return err
	}, func(err error) { answers <- answer{record, err} })
	if err != nil {
		return store.Record{}, err
	}
	select {
	case a := <-answers:
		return a.r, a.err
	case <-ctx.Done():
		return store.Record{}, ctx.Err()
	}
}

// withDigest returns the records whose digests begin so, at most limit of them.
func (r reader) withDigest(ctx context.Context, digest string, limit int) ([]store.Record, error) {
	var all []store.Record
next:
	for record, err := range r.list(ctx, store.Query{Digest: digest}) {
		if err != nil {
			return all, err
		}
		for i := range all { // a listing may yield one twice
			if all[i].Key == record.Key {
				if all[i].Revision < record.Revision {
					all[i] = record
				}
				continue next
			}
		}
		if all = append(all, record); len(all) == limit {
			break
		}
	}
	return all, nil
}

// isOne reports whether an error of a listing is that of one record.
func isOne(err error) bool {
	return errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrVersion)
}

// isDigest reports whether a text may begin a digest.
func isDigest(text string) bool {
	if len(text) < 8 || len(text) > 2*sha256.Size {
		return false
	}
	for _, c := range []byte(text) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
