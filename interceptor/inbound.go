package interceptor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	commonpb "go.temporal.io/api/common/v1"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	sdkinterceptor "go.temporal.io/sdk/interceptor"

	"github.com/atmostonce/atmostonce/internal/engine"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// inbound guards one attempt of a marked activity.
type inbound struct {
	sdkinterceptor.ActivityInboundInterceptorBase
	worker  *workerGuard
	verdict verdict
	beat    heartbeat
	door    door
	call    engine.Request

	guarding guarding
}

// Init implements the SDK's ActivityInboundInterceptor.
func (i *inbound) Init(outbound sdkinterceptor.ActivityOutboundInterceptor) error {
	i.beat.Next = outbound
	return i.Next.Init(&i.beat)
}

type guardedBy struct{ guard *Guard }

// guarding is the context of a call that the guard guards.
type guarding struct {
	context.Context
	by guardedBy
}

// Value implements context.Context.
func (g *guarding) Value(key any) any {
	if key == any(g.by) {
		return true
	}
	return g.Context.Value(key)
}

// ExecuteActivity implements the SDK's ActivityInboundInterceptor. It is on the stack
// while the body runs.
func (i *inbound) ExecuteActivity(ctx context.Context, in *sdkinterceptor.ExecuteActivityInput) (any, error) {
	i.beat.attempt = ctx
	body := func(ctx context.Context) (any, error) { return i.Next.ExecuteActivity(ctx, in) }
	key := guardedBy{i.worker.guard}
	if ctx.Value(key) != nil {
		return body(ctx) // installed twice: the outer one guards
	}
	i.guarding = guarding{ctx, key}
	mode, guards, unnamed := i.prepare(&i.guarding, in.Args)
	if !guards {
		return body(ctx)
	}
	return i.worker.guard.engine.Do(&i.guarding, &i.call, mode, unnamed, body)
}

// prepare makes the call that the engine is to guard; guards reports whether it is.
// unnamed is why it has no key.
func (i *inbound) prepare(ctx context.Context, args []any) (mode once.Mode, guards bool, unnamed error) {
	m, marked, unclear := i.verdict.with(args)
	if !marked {
		return mode, false, nil
	}
	w, r := i.worker, &i.call
	if !w.announced.Load() {
		w.announce(sdkactivity.GetLogger(ctx))
	}
	i.request(ctx, m, args)
	w.prepareCall(ctx, engine.Place{Namespace: r.Holder.Namespace, Queue: r.Queue, Activity: r.Activity})
	mode = w.guard.registry.marks.modeOf(m, r.Activity)
	unnamed = i.identified(ctx, r, m, mode)
	if unclear != nil {
		unnamed = engine.BadSetup(unclear)
	}
	return mode, true, unnamed
}

// prepareCall makes the series of an activity known, where it is called for the first
// time.
func (w *workerGuard) prepareCall(ctx context.Context, p engine.Place) {
	to := w.guard.clients.Destination(ctx)
	if w.known.has(p, to) {
		return
	}
	if w.guard.engine.Prepare(ctx, to, p) && to == nil {
		w.guard.clients.learnFrom(ctx)
	}
	w.known.add(p, to)
}

// places are those of which a worker has made the series known, with where they went
// last: a worker has one client, as a rule.
type places struct {
	mu  sync.RWMutex
	all map[engine.Place]any
}

func (s *places) has(p engine.Place, to any) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	last, known := s.all[p]
	return known && last == to
}

func (s *places) add(p engine.Place, to any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[engine.Place]any{}
	}
	s.all[p] = to
}

// request notes what the engine is to do, without what identified finds out.
func (i *inbound) request(ctx context.Context, m mark, args []any) {
	w, info := i.worker, sdkactivity.GetInfo(ctx)
	life := w.life.Load()
	i.beat.stopping = life.Stopping()
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = info.Deadline
	}
	i.door = door{info: info, beat: &i.beat, surrounded: w.isSurrounded(ctx), returns: i.verdict.code.result(), limit: w.guard.options.MaxOutcome}
	i.call = engine.Request{
		Identity: engine.Identity{Activity: info.ActivityType.Name, Queue: info.TaskQueue, Holder: store.Holder{
			Namespace: info.Namespace, WorkflowID: info.WorkflowExecution.ID, RunID: info.WorkflowExecution.RunID,
			ActivityID: info.ActivityID, ActivityRunID: info.ActivityRunID, Local: info.IsLocalActivity,
			Scheduled: info.ScheduledTime.UTC(), Attempt: info.Attempt, Worker: w.name,
		}},
		Attempt: attemptOf(info, callHeader{}).Until(deadline, i.beat.Next.GetWorkerStopChannel(ctx)),
		Policy:  m.policy, Args: args, Out: i.door.returns, Door: &i.door, Life: life.Life,
	}
}

// attemptOf returns what is known of an attempt. An eager activity comes without its
// retry policy, but its workflow's worker, which is this one, has put it into the
// header. The SDK's test environments keep the policy to themselves, and have no time to
// wait: there each attempt is answered as one that others follow.
func attemptOf(info sdkactivity.Info, h callHeader) engine.Attempt {
	a := engine.Attempt{
		Deadline: info.Deadline, ScheduleToClose: info.ScheduleToCloseTimeout, StartToClose: info.StartToCloseTimeout, Test: inTest(info),
	}
	if !info.IsLocalActivity {
		a.Heartbeat = info.HeartbeatTimeout
	}
	if p := info.RetryPolicy; p != nil {
		a.Retries = &engine.Retries{MaximumAttempts: p.MaximumAttempts, MaximumInterval: p.MaximumInterval, NonRetryable: p.NonRetryableErrorTypes}
	} else if h.found() {
		a.Retries = h.retries()
	}
	if p := a.Retries; p != nil {
		a.Last = p.MaximumAttempts > 0 && info.Attempt >= p.MaximumAttempts && (info.RetryPolicy != nil || !a.Test)
	}
	a.Unsure = a.Retries == nil && !info.IsLocalActivity && !a.Test
	return a
}

// inTest reports whether the call is not Temporal's but that of one of the SDK's
// test environments, which make up their task tokens.
func inTest(i sdkactivity.Info) bool {
	return string(i.TaskToken) == cmp.Or(i.WorkflowExecution.RunID, i.ActivityRunID)+"#"+i.ActivityID
}

// identified finds out who r is about, and reports a panic that passes through it.
func (i *inbound) identified(ctx context.Context, r *engine.Request, m mark, mode once.Mode) (err error) {
	returned := false
	defer func() {
		if !returned {
			i.worker.guard.engine.Panicked(ctx, *r)
		}
	}()
	err = i.identify(ctx, r, m, mode)
	returned = true
	return err
}

// identify derives all that identifies the call. It runs before the body, which
// may modify its input. A panic of a converter must not stop a mode that changes
// nothing either.
func (i *inbound) identify(ctx context.Context, r *engine.Request, m mark, mode once.Mode) (err error) {
	if mode != once.Enforce {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v", p)
			}
		}()
	}
	showInput(r.Args)
	conv, wire := i.worker.converters(ctx)
	if conv == nil {
		return engine.BadSetup(errNoConverter)
	}
	d := &i.door
	d.codec = codec{converters: conv, where: targetOf(d.info)}
	d.codec.bound = d.codec.dataIn(ctx, d.codec.where)
	var header callHeader
	if d.info.WorkflowExecution.ID != "" {
		header, r.HeaderErr = readHeader(ctx)
		d.know(r, header)
	}
	input := ""
	if d.info.IsLocalActivity {
		input = header.Digest
	}
	if input == "" {
		if input, err = d.codec.digest(ctx, wire, r.Args); err != nil {
			return fmt.Errorf("%w: %w", engine.ErrInput, err)
		}
	}
	if wire == nil && !d.info.IsLocalActivity {
		header = header.unseen()
		d.know(r, header)
	}
	if d.info.IsLocalActivity && r.Policy.Scope == keys.PerCall && !header.found() {
		return errors.Join(errLocalPerCall, r.HeaderErr)
	}
	r.Identity, err = i.worker.guard.engine.Name(r.Identity, r.Policy, keys.Call{
		Namespace: d.info.Namespace, TaskQueue: d.info.TaskQueue,
		WorkflowID: d.info.WorkflowExecution.ID, RunID: d.info.WorkflowExecution.RunID,
		ActivityID: d.info.ActivityID, ActivityRunID: d.info.ActivityRunID, Scheduled: d.info.ScheduledTime,
		Activity: cmp.Or(m.KeyName, d.info.ActivityType.Name), Args: r.Args, Input: input,
		OriginalRunID: header.OriginalRunID, FirstRunID: header.FirstRunID, Occurrence: header.Occurrence,
	})
	return err
}

var errLocalPerCall = errors.New("scope PerCall cannot tell the retries of a local activity from other calls without the guard's header: list the guard, or interceptor.Workflows, on the worker that runs the workflow")

// showInput lets the capture see the input of a dynamic activity, which the SDK
// hands over undecoded.
func showInput(args []any) {
	for _, arg := range args {
		if values, ok := arg.(converter.EncodedValues); ok && values.HasValues() {
			_ = values.Get(&carrier{}) // without a capture it gives nothing
		}
	}
}

// converters returns those of the call's client, and the call's input as it
// came from Temporal if it was seen.
func (w *workerGuard) converters(ctx context.Context) (*converters, *commonpb.Payloads) {
	if c := captureOf(ctx); c != nil && c.client != nil {
		return c.client.converters, c.input()
	}
	return w.guard.clients.own, nil
}
