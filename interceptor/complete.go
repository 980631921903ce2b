package interceptor

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"go.temporal.io/api/serviceerror"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/store"
)

// token is what Complete needs to know of a call.
type token struct {
	Task   []byte                                 `json:"task"`
	Where  converter.ActivitySerializationContext `json:"where"`
	Origin store.Origin                           `json:"origin"`
	Bid    store.Bid                              `json:"bid"`
}

// token returns what Claim.Token promises.
func (c *call) token(bid store.Bid, origin store.Origin) string {
	// Strings, numbers and times: it cannot fail.
	text, _ := json.Marshal(token{Task: c.info.TaskToken, Where: c.codec.where, Origin: origin, Bid: bid})
	return base64.RawURLEncoding.EncodeToString(text)
}

var errToken = errors.New("atmostonce: not a token of a guarded activity: take once.Claim.Token, not Temporal's task token")

func parseToken(text string) (t token, err error) {
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return t, errToken
	}
	if json.Unmarshal(data, &t) != nil || len(t.Task) == 0 || t.Bid.Key == "" || t.Bid.Owner == "" {
		return t, errToken
	}
	return t, nil
}

// Complete reports the end of an activity that returned ErrResultPending: it
// records the outcome, then completes the activity at Temporal. It takes the
// place of the client's CompleteActivity and CompleteActivityByID, which the
// guard does not see. c is a client of the activity's namespace; tokenText is
// the Claim.Token that the activity has handed out. failure is judged by the
// OnFailure policy that this guard has for the activity, as one that the activity
// returned would be.
//
// A nil error says that the outcome is recorded. If Temporal no longer waited for
// this attempt, a later one replays it. Any other error says that it may not be:
// call again, with the same arguments, until the error is nil, ErrSuperseded or
// ErrConflict; see package store for these two. Until ctx ends, Complete does so
// by itself where the store or Temporal cannot be reached.
func (g *Guard) Complete(ctx context.Context, c client.Client, tokenText string, result any, failure error) error {
	t, err := parseToken(tokenText)
	if err != nil {
		return err
	}
	conv := g.converters()
	if conv == nil {
		return fmt.Errorf("atmostonce: %w", errNoConverter)
	}
	end, err := g.outside(ctx, conv, t).end(t, result, failure)
	if err != nil {
		return err
	}
	return end.report(ctx, c, t)
}

// converters returns those of the guard's client, for what is not called by it.
func (g *Guard) converters() *converters {
	if g.options.DataConverter != nil {
		return newConverters(g.options.DataConverter, g.options.FailureConverter)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.latest
}

// policyOf returns the policy of an activity, which this process need not run.
func (g *Guard) policyOf(activity string) once.Policy {
	if m, ok := g.plain.markOf(activity); ok {
		return m.policy
	}
	return libraryDefaults(g.options.Defaults)
}

// outside is the call of a token, without an attempt that runs.
func (g *Guard) outside(ctx context.Context, conv *converters, t token) *call {
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
func (c *call) end(t token, result any, failure error) (ending, error) {
	ctx := c.codec.ctx
	e := ending{result, once.Plain(failure)}
	write := func(ctx context.Context, o store.Outcome) (store.Record, error) {
		return c.guard.store.Settle(ctx, t.Bid, o)
	}
	var outcome store.Outcome
	var verdict once.FailurePolicy
	if failure != nil {
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
		outcome.State = store.InDoubt
	}
	r, err := c.persist(ctx, context.Background(), func(ctx context.Context) (store.Record, error) { return write(ctx, outcome) })
	c.noteWrite(ctx, r, err)
	if err != nil {
		return e, fmt.Errorf("atmostonce: %s [key %s]: the outcome is not recorded: %w", c.info.ActivityType.Name, c.digest, err)
	}
	switch {
	case failure == nil:
	case r.State == store.InDoubt:
		_, e.err = c.doubtful(t.Bid, r, e.err)
	case r.State != store.Tombstone && r.State != store.Failed: // an earlier run's end, which the next attempt replays
		e.err = c.refuse(refusal{reason: once.InFlight, record: r, retryable: true, delay: minRetry, cause: e.err})
	}
	return e, nil
}

// report tells Temporal, unless it no longer waits for this attempt.
func (e ending) report(ctx context.Context, c client.Client, t token) error {
	err := c.CompleteActivityWithOptions(ctx, client.CompleteActivityOptions{
		TaskToken: t.Task, Result: e.result, Err: e.err, Namespace: t.Where.Namespace, WorkflowID: t.Where.WorkflowID,
		WorkflowType: t.Where.WorkflowType, ActivityType: t.Where.ActivityType, TaskQueue: t.Where.TaskQueue,
	})
	if gone := (*serviceerror.NotFound)(nil); errors.As(err, &gone) {
		return nil
	}
	return err
}
