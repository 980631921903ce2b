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

	"github.com/atmostonce/atmostonce/internal/engine"
	"github.com/atmostonce/atmostonce/once"
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

// record writes down what was reported, and returns what Temporal gets.
func (g *Guard) record(ctx context.Context, t ticket, result any, failure error, mode once.Mode) (ending, error) {
	conv, err := g.clients.outside()
	if err != nil {
		return ending{}, fmt.Errorf("atmostonce: %w", err)
	}
	if _, marked := g.find(t.Bid.Info.Activity); failure != nil && !marked {
		return ending{}, fmt.Errorf("atmostonce: activity %s is not marked here: which policy judges the failure? Mark it by the name it is registered under", t.Bid.Info.Activity)
	}
	if mode == once.Observe {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, reportTime)
		defer cancel()
	}
	failed, err := g.engine.End(ctx, g.requestOf(t, conv), engine.Ending{Bid: t.Bid, Origin: t.Origin, Begun: t.Begun, Result: result, Failure: failure})
	return ending{result, failed}, err
}

// reportTime bounds how long the report of a call waits for its record that is only
// observed.
const reportTime = 5 * time.Second

// requestOf is the call of a ticket, of whose attempt nothing is known any more.
func (g *Guard) requestOf(t ticket, conv *converters) engine.Request {
	h := t.Bid.Info.Holder
	info := sdkactivity.Info{
		Namespace: h.Namespace, WorkflowExecution: workflow.Execution{ID: h.WorkflowID, RunID: h.RunID},
		ActivityType: sdkactivity.Type{Name: t.Bid.Info.Activity}, ActivityID: h.ActivityID, ActivityRunID: h.ActivityRunID,
	}
	return engine.Request{
		Identity: engine.Identity{Activity: t.Bid.Info.Activity, Queue: t.Where.TaskQueue, Holder: h}.Named(t.Bid.Key),
		Attempt:  engine.Attempt{Unsure: true},
		Policy:   g.policyOf(t.Bid.Info.Activity),
		Door:     &door{codec: codec{conv, t.Where}, info: info, limit: g.options.MaxOutcome},
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
