package engine

import (
	"context"
	"errors"
	"time"

	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

// measured is the store as the guard calls it: each call is measured.
type measured struct {
	store.Store
	reporter *reporter
	// returns is set where each call is certain to return at once, whatever happens. Of
	// this module's stores that is Memory, which waits for nothing: Redis waits for a
	// network, files for a disk. A store of the user's is never taken to, one that has a
	// Memory inside included.
	returns bool
}

func measure(s store.Store, r *reporter) measured {
	_, returns := s.(*store.Memory)
	return measured{s, r, returns}
}

// limit returns the context of one call of the store.
func (m measured) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	if m.returns {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, storeTimeout)
}

// unknownKind is the kind of a store that does not say its kind.
const unknownKind = "other"

func kindOf(s store.Store) string {
	kind := unknownKind
	if k, says := s.(store.Kinded); says {
		quietly(func() { kind = k.Kind() })
	}
	return kind
}

func (m measured) took(ctx context.Context, operation, namespace string, took time.Duration, err error) {
	if errors.Is(err, context.Canceled) {
		return // its caller gave up, which says nothing about the store
	}
	m.reporter.measure(ctx, observe.Measurement{Metric: observe.StoreDuration, Duration: took,
		Values: [5]string{namespace, m.reporter.kind, operation, observe.StoreErrorType(err)}})
}

func (m measured) Acquire(ctx context.Context, b store.Bid) (r store.Record, err error) {
	began := time.Now()
	r, err = m.Store.Acquire(ctx, b)
	m.took(ctx, "acquire", b.Info.Holder.Namespace, time.Since(began), err)
	return r, err
}

func (m measured) Renew(ctx context.Context, b store.Bid) (r store.Record, err error) {
	began := time.Now()
	r, err = m.Store.Renew(ctx, b)
	m.took(ctx, "renew", b.Info.Holder.Namespace, time.Since(began), err)
	return r, err
}

func (m measured) Settle(ctx context.Context, b store.Bid, o store.Outcome) (r store.Record, err error) {
	began := time.Now()
	r, err = m.Store.Settle(ctx, b, o)
	m.took(ctx, "settle", b.Info.Holder.Namespace, time.Since(began), err)
	return r, err
}

func (m measured) Release(ctx context.Context, b store.Bid) (r store.Record, err error) {
	began := time.Now()
	r, err = m.Store.Release(ctx, b)
	m.took(ctx, "release", b.Info.Holder.Namespace, time.Since(began), err)
	return r, err
}

func (m measured) Takeover(ctx context.Context, b store.Bid, from store.Record) (r store.Record, err error) {
	began := time.Now()
	r, err = m.Store.Takeover(ctx, b, from)
	m.took(ctx, "takeover", b.Info.Holder.Namespace, time.Since(began), err)
	return r, err
}

func (m measured) Resolve(ctx context.Context, key string, from store.Record, res store.Resolution) (r store.Record, err error) {
	began := time.Now()
	r, err = m.Store.Resolve(ctx, key, from, res)
	m.took(ctx, "resolve", from.Info.Holder.Namespace, time.Since(began), err)
	return r, err
}

func (m measured) load(ctx context.Context, namespace, key string) (r store.Record, err error) {
	began := time.Now()
	r, err = m.Store.Load(ctx, key)
	m.took(ctx, "load", namespace, time.Since(began), err)
	return r, err
}
