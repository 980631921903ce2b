package interceptor

import (
	"context"
	"fmt"

	"go.temporal.io/sdk/converter"

	"github.com/atmostonce/atmostonce/internal/engine"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

// Resolve writes an operator's finding into the record r, which Guard.Find,
// Store.Load or Store.List gave. What is in doubt or pending is decided by it. What
// is settled is corrected by AsDone and AsFailed, and reopened by AsNotDone, so that the
// effect may happen again. It returns the record as it then is; the next attempt
// acts on it.
//
// A record goes in doubt while its last owner may still be alive: suspended, cut
// off from the store, or with a request on its way. AsNotDone, which lets another
// call run, is refused with resolve.ErrTooEarly until it is over by the store's clock: until
// SettleDelay has passed since Record.Doubted and, unless the owner itself declared
// the doubt, until Record.Deadline; for a pending record, until SettleDelay after
// Record.Deadline; for one that an operator has settled before its owner, until both
// have passed. Decision.Force decides in spite of that.
//
// Unlike Store.Resolve it encodes the result as the guard's client does, and
// remembers it as long as the activity's policy says, or Options.Defaults if this
// guard does not mark the activity. A result of another type than the activity's is
// refused with resolve.ErrResultType, if this guard knows the activity's function.
// store.ErrMoved says that the record has changed since it was read: read it again.
// A store that cannot be reached is asked again until ctx ends.
//
// Of a pending record Temporal learns only at the next attempt, after StartToClose:
// complete the activity at Temporal too, or report its end with Complete instead.
func (g *Guard) Resolve(ctx context.Context, r store.Record, f resolve.Finding, d resolve.Decision) (store.Record, error) {
	return g.engine.Resolve(ctx, r, f, d, engine.Subject{
		Policy: g.policyOf(r.Info.Activity),
		Check:  func() error { return g.checkResult(r.Info.Activity, f) },
		Encode: func(ctx context.Context) (store.Outcome, error) { return g.encodeFinding(ctx, r, f) },
	})
}

// Forget erases the record r, which Guard.Find, Store.Load or Store.List gave, for
// instance because its customer asks for it. Nothing is left of it but its key, its
// fence, the nonces of its claims and this decision, for store.TombstoneTTL; then
// that is gone, too. The next call of the key runs, so that the effect may happen
// again. It returns the record as it then is, and tells the observers: notice
// Erased is what remains as evidence.
//
// What runs, is pending or in doubt is refused, unless Decision.Force is set; so is,
// with resolve.ErrTooEarly, what an operator has settled while the last owner may still act;
// see Resolve. An owner that has its effect all the same, and reports it, brings the
// record back: that is the only evidence of it.
func (g *Guard) Forget(ctx context.Context, r store.Record, d resolve.Decision) (store.Record, error) {
	return g.engine.Forget(ctx, r, d, g.policyOf(r.Info.Activity))
}

// Find returns the one record whose key has the digest that an error, a log line or
// a span shows: 16 hexadecimal digits of it, or any 8 to 64 that it begins with, in
// either case. It is resolve.ErrNotFound, ErrAmbiguous or ErrDigest if there is none,
// more than one, or the digest is empty, too short or none. A record that may be meant
// and cannot be read is an error, too: store.ErrCorrupt or store.ErrVersion.
func (g *Guard) Find(ctx context.Context, digest string) (store.Record, error) {
	return g.engine.Find(ctx, digest)
}

func (g *Guard) encodeFinding(ctx context.Context, r store.Record, f resolve.Finding) (store.Outcome, error) {
	conv, err := g.clients.outside()
	if err != nil {
		return store.Outcome{}, err
	}
	h := r.Info.Holder
	c := codec{conv, target{ActivitySerializationContext: converter.ActivitySerializationContext{
		Namespace: h.Namespace, WorkflowID: h.WorkflowID, ActivityType: r.Info.Activity, IsLocal: h.Local,
	}}}
	if f.To == store.Failed {
		o, _ := c.encodeFailure(ctx, f.Err)
		return o, kept(o, "error")
	}
	o, _, err := c.encode(ctx, f.Result, g.options.MaxOutcome)
	if err == nil {
		err = kept(o, "result")
	}
	return o, err
}

// kept refuses an outcome without what it is to replay.
func kept(o store.Outcome, what string) error {
	if o.Missing != "" {
		return fmt.Errorf("the %s: %s", what, o.Missing)
	}
	return nil
}
