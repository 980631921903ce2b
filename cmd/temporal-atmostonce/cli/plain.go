package cli

import (
	"context"
	"io"
	"log/slog"
	"time"

	"go.temporal.io/sdk/converter"

	"github.com/atmostonce/atmostonce"
	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/internal/ops"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

// plain is a guard that knows no activity and no function. It judges as their guards do,
// and encodes as Temporal's default converter, or the codec endpoint, does.
type plain struct {
	store store.Store
	delay time.Duration // 0: the guards' default
	data  func() (converter.DataConverter, error)
}

// Find implements Guard.
func (p plain) Find(ctx context.Context, digest string) (store.Record, error) {
	return ops.Console{Store: p.store}.Find(ctx, digest)
}

// Resolve implements Guard.
func (p plain) Resolve(ctx context.Context, r store.Record, f resolve.Finding, d resolve.Decision) (store.Record, error) {
	g, err := p.of(r)
	if err != nil {
		return r, err
	}
	return g.Resolve(ctx, r, f, d)
}

// Forget implements Guard.
func (p plain) Forget(ctx context.Context, r store.Record, d resolve.Decision) (store.Record, error) {
	g, err := p.of(r)
	if err != nil {
		return r, err
	}
	return g.Forget(ctx, r, d)
}

// of returns the guard of a record's kind: of activities, or of functions.
func (p plain) of(r store.Record) (Guard, error) {
	lease := time.Duration(0)
	if p.delay > 0 { // guards want it to be longer than a third of the lease, which is not used
		lease = max(30*time.Millisecond, min(2*p.delay, time.Minute))
	}
	if ops.IsFunction(r) {
		quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
		return atmostonce.New(p.store, atmostonce.Options{Namespace: r.Info.Holder.Namespace, SettleDelay: p.delay, Lease: lease, Logger: quiet})
	}
	data, err := p.data()
	if err != nil {
		return nil, err
	}
	return interceptor.New(p.store, interceptor.Options{
		Activities:    once.Mark(once.Policy{}, "an activity that this program does not know"),
		DataConverter: data, SettleDelay: p.delay, Lease: lease,
	})
}
