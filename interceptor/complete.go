package interceptor

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.temporal.io/api/serviceerror"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// Complete reports the end of an activity that returned ErrResultPending: it
// records the outcome, then completes the activity at Temporal. It takes the
// place of the client's CompleteActivity and CompleteActivityByID, which the
// guard does not see. c is a client of the activity's namespace; token is the
// Claim.Token that the activity has handed out, to nobody who must not decide what
// came of the effect. failure is judged by the OnFailure policy that this guard
// has for the activity, which it must mark, as one that the activity returned
// would be.
//
// A nil error says that the outcome is recorded, unless the call ran without a
// claim or its Mode is not Enforce. If Temporal no longer waited for this attempt, a
// later one replays it. Where the store or Temporal cannot be reached, Complete
// tries again until ctx ends: then it may be recorded, and can be called again with
// the same arguments. store.ErrSuperseded and store.ErrConflict say that somebody
// else has decided. Of any other error the message tells whether the outcome is
// recorded.
func (g *Guard) Complete(ctx context.Context, c client.Client, token string, result any, failure error) error {
	t, err := parseToken(token)
	if err != nil {
		return err
	}
	e := ending{result, once.Plain(failure)}
	mode := once.Off
	if t.Bid.Owner != "" {
		m, _ := g.find(t.Bid.Info.Activity)
		mode = g.modeOf(m, t.Where.ActivityType)
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

// record writes down what was reported, and returns what to tell Temporal.
func (g *Guard) record(ctx context.Context, t ticket, result any, failure error, mode once.Mode) (ending, error) {
	conv, err := g.converters()
	if err != nil {
		return ending{}, fmt.Errorf("atmostonce: %w", err)
	}
	if _, marked := g.find(t.Bid.Info.Activity); failure != nil && !marked {
		return ending{}, fmt.Errorf("atmostonce: activity %s is not marked here: which policy judges the failure? Mark it by the name it is registered under", t.Bid.Info.Activity)
	}
	if mode == once.Observe {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, storeTimeout)
		defer cancel()
	}
	return g.outside(ctx, conv, t).end(t, result, failure)
}

var errManyConverters = errors.New("the guard serves several clients: set interceptor.Options.DataConverter to say whose converter encodes what no worker has run")

// converters returns those of the guard's client, for what is not called by it.
func (g *Guard) converters() (*converters, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.client != nil && !g.several:
		return g.client, nil
	case g.own != nil:
		return g.own, nil
	case g.client == nil:
		return nil, errNoConverter
	}
	return nil, errManyConverters
}

// find returns the mark of an activity, which this process need not run.
func (g *Guard) find(activity string) (m mark, found bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	registered, first := false, unmarked
	for _, w := range g.workers {
		r, ok := w.types.all()[activity]
		registered = registered || ok
		if !ok || r.mark == unmarked || g.marks[r.mark].Exempt {
			continue
		}
		if first != unmarked && first != r.mark {
			return mark{}, false // two workers have two activities of that name
		}
		first = r.mark
	}
	switch {
	case first != unmarked:
		return g.marks[first], true
	case registered:
		return mark{}, false
	}
	v := g.plain.judge(activity, false)
	switch len(v.suspects) {
	case 0:
		return v.mark, v.marked
	case 1: // of another process, which has the same marks
		return v.suspects[0], true
	}
	return mark{}, false
}

// policyOf returns the policy of an activity, or the defaults.
func (g *Guard) policyOf(activity string) once.Policy {
	if m, ok := g.find(activity); ok {
		return m.policy
	}
	return libraryDefaults(g.options.Defaults)
}

// outside is the call of a ticket, without an attempt that runs.
func (g *Guard) outside(ctx context.Context, conv *converters, t ticket) *call {
	h := t.Bid.Info.Holder
	info := sdkactivity.Info{
		Namespace: h.Namespace, ActivityID: h.ActivityID, ActivityRunID: h.ActivityRunID, Attempt: h.Attempt,
		WorkflowExecution: workflow.Execution{ID: h.WorkflowID, RunID: h.RunID},
		WorkflowType:      &workflow.Type{Name: t.Where.WorkflowType},
		ActivityType:      sdkactivity.Type{Name: t.Bid.Info.Activity}, TaskQueue: t.Where.TaskQueue,
	}
	c := &call{guard: g, worker: g.plain, life: g.plain.life.Load(), policy: g.policyOf(t.Bid.Info.Activity), info: info,
		codec: codec{conv, ctx, t.Where}, key: t.Bid.Key, downstream: keys.Downstream(t.Bid.Key)}
	c.digest = c.downstream[:16]
	return c
}

// ending is what Temporal is told.
type ending struct {
	result any
	err    error
}

// end records what was reported.
func (c *call) end(t ticket, result any, failure error) (ending, error) {
	ctx := c.codec.ctx
	e := ending{result, once.Plain(failure)}
	write := func(ctx context.Context, o store.Outcome) (store.Record, error) {
		return c.guard.store.Settle(ctx, t.Bid, o)
	}
	var outcome store.Outcome
	var verdict once.FailurePolicy
	if failure != nil {
		c.evidence.begun.Store(t.Begun)
		verdict = c.verdict(failure, t.Origin, false)
	}
	switch {
	case failure == nil:
		var err error
		if outcome, _, err = c.codec.encode(result, c.guard.options.MaxOutcome); err != nil {
			return e, fmt.Errorf("atmostonce: the result cannot be encoded: %w", err)
		}
	case verdict == once.Lock:
		outcome, e.err = c.codec.encodeFailure(e.err)
	case verdict == once.Unlock:
		write = func(ctx context.Context, _ store.Outcome) (store.Record, error) {
			return c.guard.store.Release(ctx, t.Bid)
		}
	default:
		outcome = c.codec.doubt(e.err)
	}
	r, err := persist(ctx, context.Background(), func(ctx context.Context) (store.Record, error) { return write(ctx, outcome) })
	c.noteWrite(ctx, r, err)
	if err != nil {
		return e, fmt.Errorf("atmostonce: %s [key %s]: the outcome is not recorded: %w", c.info.ActivityType.Name, c.digest, err)
	}
	switch {
	case failure == nil:
	case r.State == store.InDoubt:
		_, e.err = c.doubtful(ctx, t.Bid, r, e.err)
	case r.State != store.Tombstone && r.State != store.Failed: // an earlier run's end, which the next attempt replays
		e.err = c.refuse(refusal{reason: once.InFlight, record: r, retryable: true, delay: minRetry, cause: e.err}, false)
	}
	return e, nil
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

// report tells Temporal, unless it no longer waits for this attempt.
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
