package interceptor

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.temporal.io/api/serviceerror"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/atmostonce/atmostonce/internal/engine"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

// Complete reports the end of an activity that returned ErrResultPending: it
// records the outcome, then completes the activity at Temporal. It takes the
// place of the client's CompleteActivity and CompleteActivityByID, which the
// guard does not see. c is a client of the activity's namespace. token is the
// Claim.Token of the activity. Treat it as a secret: whoever has it can decide the
// outcome. failure is judged as if the activity had returned it, by the OnFailure
// policy of this guard's mark for the activity; without a mark it is refused.
//
// A nil error says that the outcome is recorded, unless the call ran without a
// claim or its Mode is not Enforce. If Temporal no longer waited for this attempt, a
// later one replays it. Where the store or Temporal cannot be reached, Complete
// tries again until ctx ends: then it may be recorded, and can be called again with
// the same arguments. store.ErrSuperseded and store.ErrConflict say that somebody
// else has decided. The message of any other error says whether the outcome is
// recorded.
func (g *Guard) Complete(ctx context.Context, c client.Client, token string, result any, failure error) error {
	t, err := parseToken(token)
	if err != nil {
		return err
	}
	e := ending{result, once.Plain(failure)}
	mode := once.Off
	if t.Bid.Owner != "" {
		m, _ := g.registry.find(t.Bid.Info.Activity)
		mode = g.registry.marks.modeOf(m, t.Where.ActivityType)
	}
	if mode != once.Off {
		recorded, err := g.record(ctx, t, result, failure, mode)
		switch {
		case mode == once.Observe: // Temporal gets what it would get without a guard
		case err != nil:
			return err
		default:
			e = recorded
		}
	}
	if err := e.report(ctx, c, t); err != nil {
		recorded := "recorded"
		if mode != once.Enforce {
			recorded = "not recorded for certain"
		}
		return fmt.Errorf("atmostonce: the outcome is %s, and Temporal has not been told: %w", recorded, err)
	}
	return nil
}

// Resolve writes an operator's finding into the record r, which Guard.Find,
// Store.Load or Store.List gave. It decides what is in doubt or pending. AsDone and
// AsFailed correct what is settled; AsNotDone reopens it, so that the effect may
// happen again. It returns the record as it then is; the next attempt
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
// refused with resolve.ErrResultType, if this guard knows the activity's function, and so
// is the record of a function of package atmostonce, whose guard encodes results in
// another way. store.ErrMoved says that the record has changed since it was read: read it again.
// A store that cannot be reached is asked again until ctx ends.
//
// Temporal does not learn of a pending record that is resolved before the next
// attempt, after StartToClose: complete the activity at Temporal too, or report its
// end with Complete instead.
func (g *Guard) Resolve(ctx context.Context, r store.Record, f resolve.Finding, d resolve.Decision) (store.Record, error) {
	f, untyped := typed(g.registry.functions(r.Info.Activity), r.Info.Activity, f)
	return g.engine.Operator.Resolve(ctx, r, f, d, engine.Subject{
		Policy: g.registry.policyOf(r.Info.Activity),
		Check:  func() error { return errors.Join(untyped, g.check(r, f)) },
		Encode: func(ctx context.Context) (store.Outcome, error) {
			conv, err := g.clients.outside()
			if err != nil {
				return store.Outcome{}, err
			}
			return encodeFinding(ctx, conv, r, f, g.options.MaxOutcome)
		},
	})
}

// check refuses a finding that a call of r's activity could not have ended in.
func (g *Guard) check(r store.Record, f resolve.Finding) error {
	if isOfFunction(r) {
		return errors.New("it is the record of a function: a guard of functions decides about it")
	}
	return checkResult(g.registry.functions(r.Info.Activity), r.Info.Activity, f)
}

// Forget erases the record r, which Guard.Find, Store.Load or Store.List gave, for
// instance because its customer asks for it. Nothing is left of it but its key, its
// fence, the nonces of its claims and this decision, for store.TombstoneTTL; then
// that is gone, too. The next call of the key runs, so that the effect may happen
// again. It returns the record as it then is. Records of the call's steps stay, and
// are replayed: forget them too. The notice Erased, which the observers get, is what
// remains as evidence.
//
// Unless Decision.Force is set, Forget refuses what runs, is pending or is in doubt.
// It refuses with resolve.ErrTooEarly what an operator has settled while the last
// owner may still act; see Resolve. If that owner has its effect all the same, and
// reports it, the record comes back: it is the only evidence of the effect.
func (g *Guard) Forget(ctx context.Context, r store.Record, d resolve.Decision) (store.Record, error) {
	return g.engine.Operator.Forget(ctx, r, d, g.registry.policyOf(r.Info.Activity))
}

// Policy returns the policy of the activity that has the record r, with the defaults. known
// is false where this guard has no mark of it, or does not enforce it, and for a step,
// which may have a policy of its own.
func (g *Guard) Policy(r store.Record) (p once.Policy, known bool) {
	activity := r.Info.Activity
	m, marked := g.registry.find(activity)
	if !marked || isOfFunction(r) || strings.HasSuffix(activity, engine.ActivityOfSteps) || g.registry.marks.modeOf(m, activity) != once.Enforce {
		return once.Policy{}, false
	}
	return m.policy, true
}

// isOfFunction reports whether r is of a function, and of no activity.
func isOfFunction(r store.Record) bool {
	h := r.Info.Holder
	return h.WorkflowID == "" && h.ActivityID == "" && h.ActivityRunID != ""
}

// Find returns the one record whose key has the digest that an error, a log line or
// a span shows: 16 hexadecimal digits of it, or any 8 to 64 that it begins with, in
// either case. The error is resolve.ErrNotFound if there is none, ErrAmbiguous if
// there are several, ErrDigest if the text is no digest or is too short, and
// store.ErrCorrupt or store.ErrVersion if a record that may be meant cannot be read.
func (g *Guard) Find(ctx context.Context, digest string) (store.Record, error) {
	return g.engine.Operator.Find(ctx, digest)
}

// record writes down what was reported, and returns what Temporal gets.
func (g *Guard) record(ctx context.Context, t ticket, result any, failure error, mode once.Mode) (ending, error) {
	conv, err := g.clients.outside()
	if err != nil {
		return ending{}, fmt.Errorf("atmostonce: %w", err)
	}
	if _, marked := g.registry.find(t.Bid.Info.Activity); failure != nil && !marked {
		return ending{}, fmt.Errorf("atmostonce: activity %s is not marked here: which policy judges the failure? Mark it by the name it is registered under", t.Bid.Info.Activity)
	}
	if mode == once.Observe {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, reportTime)
		defer cancel()
	}
	failed, err := g.engine.End(ctx, endingOf(t, conv, g.registry.policyOf(t.Bid.Info.Activity), g.options.MaxOutcome, result, failure))
	return ending{result, failed}, err
}

// reportTime bounds how long the report of a call waits for its record that is only
// observed.
const reportTime = 5 * time.Second

// endingOf is what is reported about the call of a ticket.
func endingOf(t ticket, conv *converters, p once.Policy, limit int, result any, failure error) engine.Ending {
	h := t.Bid.Info.Holder
	info := sdkactivity.Info{
		Namespace: h.Namespace, WorkflowExecution: workflow.Execution{ID: h.WorkflowID, RunID: h.RunID},
		ActivityType: sdkactivity.Type{Name: t.Bid.Info.Activity}, ActivityID: h.ActivityID, ActivityRunID: h.ActivityRunID,
	}
	return engine.Ending{
		Identity: engine.Identity{Activity: t.Bid.Info.Activity, Queue: t.Where.TaskQueue, Holder: h}.Named(t.Bid.Key),
		Policy:   p,
		Door:     &door{codec: codec{converters: conv, where: t.Where}, info: info, limit: limit},
		Bid:      t.Bid, Origin: t.Origin, Begun: t.Begun, Result: result, Failure: failure,
	}
}

// ending is what Temporal gets.
type ending struct {
	result any
	err    error
}

// completion is what reports the ending to Temporal.
func (e ending) completion(t ticket) client.CompleteActivityOptions {
	o := client.CompleteActivityOptions{
		TaskToken: t.Task, Result: e.result, Err: e.err, Namespace: t.Where.Namespace, WorkflowID: t.Where.WorkflowID,
		WorkflowType: t.Where.WorkflowType, ActivityType: t.Where.ActivityType, TaskQueue: t.Where.TaskQueue,
	}
	// SDK 1.50 does not have the field.
	if f := reflect.ValueOf(&o).Elem().FieldByName(nexusField); f.IsValid() && t.Where.Nexus != (converter.NexusSerializationContext{}) {
		f.Set(reflect.ValueOf(&t.Where.Nexus))
	}
	return o
}

// report completes the activity at Temporal, unless that no longer waits for this
// attempt.
func (e ending) report(ctx context.Context, c client.Client, t ticket) error {
	interval := backoff.NewExponentialBackOff()
	interval.MaxInterval = 5 * time.Second
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := c.CompleteActivityWithOptions(ctx, e.completion(t))
		if passing(err) {
			return struct{}{}, err
		}
		return struct{}{}, backoff.Permanent(err)
	}, backoff.WithBackOff(interval), backoff.WithMaxElapsedTime(0))
	if gone := (*serviceerror.NotFound)(nil); errors.As(err, &gone) {
		return nil
	}
	return err
}

// passing reports whether Temporal may answer otherwise a little later.
func passing(err error) bool {
	var unavailable *serviceerror.Unavailable
	var exhausted *serviceerror.ResourceExhausted
	var late *serviceerror.DeadlineExceeded
	return errors.As(err, &unavailable) || errors.As(err, &exhausted) || errors.As(err, &late)
}

// encodeFinding encodes a finding as if the call of the record had ended in it.
func encodeFinding(ctx context.Context, conv *converters, r store.Record, f resolve.Finding, limit int) (store.Outcome, error) {
	h := r.Info.Holder
	c := codec{converters: conv, where: target{ActivitySerializationContext: converter.ActivitySerializationContext{
		Namespace: h.Namespace, WorkflowID: h.WorkflowID, ActivityType: r.Info.Activity, IsLocal: h.Local,
	}}}
	if f.To == store.Failed {
		o, _ := c.encodeFailure(ctx, f.Err)
		return o, kept(o, "error")
	}
	o, _, err := c.encode(ctx, f.Result, limit)
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
