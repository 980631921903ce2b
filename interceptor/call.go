package interceptor

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"

	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// call is one attempt of a guarded activity.
type call struct {
	guard  *Guard
	worker *workerGuard
	life   *life
	policy once.Policy
	info   sdkactivity.Info
	args   []any
	codec  codec
	beat   *heartbeat
	stop   <-chan struct{} // the SDK's sign that the worker stops

	header    callHeader // zero without
	headerErr error      // why it could not be used

	key        string
	digest     string // of key, for people
	downstream string // of key, for the callee
	match      string
	input      string

	// surrounded says that other interceptors get the answer: they get a value, as
	// the body returns it, instead of what is recorded.
	surrounded bool
	returns    reflect.Type // the type of the body's result; nil: none, or not known

	evidence  evidence      // of what the body did
	enforced  bool          // the worker's stop waits for it
	report    observe.Event // what became of the call
	leaseLost atomic.Bool   // it was told

	deadline time.Time // less the margin that an answer needs
	span     time.Duration
}

// newCall returns the call that ctx is about, without its identity.
func newCall(ctx context.Context, w *workerGuard, m mark, args []any, beat *heartbeat) *call {
	info := sdkactivity.GetInfo(ctx)
	c := &call{guard: w.guard, worker: w, life: w.life.Load(), policy: m.policy, info: info, args: args, beat: beat,
		stop: beat.Next.GetWorkerStopChannel(ctx), surrounded: w.isSurrounded(ctx)}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = info.Deadline
	}
	c.span = time.Until(deadline)
	c.deadline = deadline.Add(-margin(c.span))
	return c
}

// identified is identify, and tells of a panic that passes through it.
func (c *call) identified(ctx context.Context, m mark, mode once.Mode) (err error) {
	returned := false
	defer func() {
		if !returned {
			_, _, end := c.begin(ctx, c.event(observe.KindClaim))
			e := c.event(observe.KindFail)
			e.Reason = once.BadKey
			end(e)
		}
	}()
	err = c.identify(ctx, m, mode)
	returned = true
	return err
}

// identify derives all that identifies the call. It runs before the body, which
// may modify its input. A mode that changes nothing is not to be stopped by a
// panic of a converter either.
func (c *call) identify(ctx context.Context, m mark, mode once.Mode) (err error) {
	if mode != once.Enforce {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v", p)
			}
		}()
	}
	w, info, args := c.worker, c.info, c.args
	showInput(args)
	conv, wire := w.converters(ctx)
	if conv == nil {
		return errNoConverter
	}
	c.codec = conv.codec(ctx, info)
	if info.WorkflowExecution.ID != "" {
		c.header, c.headerErr = readHeader(ctx)
	}
	if info.IsLocalActivity {
		c.input = c.header.Digest
	}
	if c.input == "" {
		if c.input, err = c.codec.digest(wire, args); err != nil {
			return fmt.Errorf("%w: %w", errInput, err)
		}
	}
	c.input = c.guard.hide(c.input)
	if wire == nil && !info.IsLocalActivity {
		c.header = c.header.unseen()
	}
	k := keys.Call{
		Namespace: info.Namespace, TaskQueue: info.TaskQueue,
		WorkflowID: info.WorkflowExecution.ID, RunID: info.WorkflowExecution.RunID,
		ActivityID: info.ActivityID, ActivityRunID: info.ActivityRunID, Scheduled: info.ScheduledTime,
		Activity: info.ActivityType.Name, Args: args, Input: c.input,
		OriginalRunID: c.header.OriginalRunID, FirstRunID: c.header.FirstRunID, Occurrence: c.header.Occurrence,
	}
	if m.KeyName != "" {
		k.Activity = m.KeyName
	}
	if info.IsLocalActivity && c.policy.Scope == keys.PerCall && !c.header.found() {
		return errors.Join(errLocalPerCall, c.headerErr)
	}
	if err = c.derive(k); err != nil {
		return err
	}
	c.downstream = keys.Downstream(c.key)
	c.digest = c.downstream[:16]
	return nil
}

// derive asks the policy's functions for key and match. A panic of theirs is an
// error like any other, without its value, which may show input.
func (c *call) derive(k keys.Call) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("a key function panicked: %s", panicked(p))
		}
	}()
	if c.match, err = c.policy.Match.Part(k); err != nil {
		return fmt.Errorf("Match: %v", err) //nolint:errorlint // ErrSkip is for Key alone
	}
	c.match = c.guard.hide(c.match)
	key := c.policy.Key
	if !key.IsZero() && !key.IsHash() { // the input is hidden already
		key = c.guard.hidden(key)
	}
	c.key, err = keys.Make(c.policy.Scope, key, k)
	return err
}

// panicked is what to say of a panic that has just been recovered from: the
// runtime's own message, or the value's type, and where it began.
func panicked(p any) string {
	what := fmt.Sprintf("a value of type %T", p)
	if e, ok := p.(runtime.Error); ok {
		what = e.Error()
	}
	var stack [64]uintptr
	frames := runtime.CallersFrames(stack[:runtime.Callers(0, stack[:])])
	for panics := false; ; {
		f, more := frames.Next()
		switch inRuntime := strings.HasPrefix(f.Function, "runtime."); {
		case f.Function == "runtime.gopanic":
			panics = true
		case panics && !inRuntime:
			return fmt.Sprintf("%s, at %s:%d", what, filepath.Base(f.File), f.Line)
		}
		if !more {
			return what
		}
	}
}

// showInput lets the capture see the input of a dynamic activity, which the SDK
// hands over undecoded.
func showInput(args []any) {
	for _, arg := range args {
		if values, ok := arg.(converter.EncodedValues); ok && values.HasValues() {
			_ = values.Get(&carrier{}) // without a capture it gives nothing
		}
	}
}

var (
	errLocalPerCall = errors.New("scope PerCall cannot tell the retries of a local activity from other calls without the guard's header: list the guard, or interceptor.Workflows, on the worker that runs the workflow")
	errInput        = errors.New("the input cannot be read")
)

// bid makes a new claim's side of the store's calls.
func (c *call) bid(traceparent string) store.Bid {
	return store.Bid{
		Key: c.key, Owner: rand.Text(), Lease: c.guard.options.Lease, TTL: c.retention(),
		Deadline: c.attemptLeft(),
		Info: store.Info{
			Activity: c.info.ActivityType.Name, Input: c.input, Match: c.match, Trace: traceparent,
			Holder: store.Holder{
				Namespace: c.info.Namespace, WorkflowID: c.info.WorkflowExecution.ID, RunID: c.info.WorkflowExecution.RunID,
				ActivityID: c.info.ActivityID, ActivityRunID: c.info.ActivityRunID, Local: c.info.IsLocalActivity,
				Scheduled: c.info.ScheduledTime.UTC(), Attempt: c.info.Attempt, Worker: c.worker.name,
				OriginalRunID: c.header.OriginalRunID, Occurrence: c.header.Occurrence,
			},
		},
	}
}

// isRetryOf reports whether r's owner was an earlier attempt of this call. The
// time of scheduling tells calls apart: activity IDs are unique among pending
// activities only.
func (c *call) isRetryOf(r store.Record) bool {
	h := r.Info.Holder
	if h.Local && c.info.IsLocalActivity {
		// Neither its ID nor its time of scheduling survives the worker.
		numbered := c.header.found() && h.Occurrence > 0
		return h.Namespace == c.info.Namespace && h.RunID == c.info.WorkflowExecution.RunID &&
			r.Info.Activity == c.info.ActivityType.Name && r.Info.Input == c.input &&
			(!numbered || h.Occurrence == c.header.Occurrence)
	}
	return h.Namespace == c.info.Namespace && h.RunID == c.info.WorkflowExecution.RunID &&
		h.ActivityRunID == c.info.ActivityRunID && h.ActivityID == c.info.ActivityID &&
		h.Local == c.info.IsLocalActivity && h.Scheduled.Equal(c.info.ScheduledTime)
}

// isSameCall reports whether r's owner was an attempt of this call, in this run
// or before a reset of it. The occurrence alone does not tell: calls of each
// input are counted apart.
func (c *call) isSameCall(r store.Record) bool {
	h := r.Info.Holder
	return c.isRetryOf(r) || c.header.found() && h.Namespace == c.info.Namespace &&
		h.OriginalRunID == c.header.OriginalRunID && h.Occurrence == c.header.Occurrence &&
		r.Info.Activity == c.info.ActivityType.Name && r.Info.Input == c.input
}

// isSameRun reports whether r's owner belongs to this run, or to a run that this
// one is a reset of.
func (c *call) isSameRun(r store.Record) bool {
	h := r.Info.Holder
	return h.RunID == c.info.WorkflowExecution.RunID && h.ActivityRunID == c.info.ActivityRunID ||
		c.header.found() && h.OriginalRunID == c.header.OriginalRunID
}

// lacksHeader reports whether this is the first attempt of a call that a reset
// would give another key.
func (c *call) lacksHeader() bool {
	scoped := c.policy.Scope == keys.PerRun || c.policy.Scope == keys.PerCall
	return scoped && c.info.WorkflowExecution.ID != "" && c.info.Attempt <= 1 && !c.header.found()
}

func (c *call) situation(r store.Record, nonce string) situation {
	s := situation{
		policy: c.policy, record: r, nonce: nonce, match: c.match, local: c.info.IsLocalActivity,
		retry: c.isRetryOf(r), sameCall: c.isSameCall(r),
		settleDelay: c.guard.options.SettleDelay, holdRetry: c.guard.options.HoldRetry,
		timeLeft: time.Until(c.deadline), scheduleLeft: c.scheduleLeft(),
		last: c.lastAttempt(), unsure: c.unsure(), stopping: c.stopping(),
	}
	s.late = c.late(s)
	// A local activity goes on until the SDK drops it.
	if end, stops := c.life.end(); stops && !s.local {
		s.timeLeft = min(s.timeLeft, time.Until(end))
	}
	return s
}

// background runs f beside the call. The worker's stop waits for it where it
// waits for the call.
func (c *call) background(f func(stop context.Context)) {
	if c.enforced {
		c.life.tasks.begin()
	}
	go func() {
		if c.enforced {
			defer c.life.tasks.end(false)
		}
		f(c.life.ctx)
	}()
}

func (c *call) event(k observe.Kind) observe.Event {
	return observe.Event{
		Kind: k, Activity: c.info.ActivityType.Name, Digest: c.digest, Policy: c.policy.OnDuplicate,
		WorkflowID: c.info.WorkflowExecution.ID, RunID: cmp.Or(c.info.WorkflowExecution.RunID, c.info.ActivityRunID),
		ActivityID: c.info.ActivityID, Attempt: c.info.Attempt,
	}
}

func (c *call) notice(ctx context.Context, what observe.Notice, r store.Record, err error) {
	e := c.event(observe.KindNotice)
	e.Notice, e.Err, e.Record = what, err, shown(r)
	c.tell(ctx, e)
}

// noticeLeaseLost tells once that the claim is another call's, or may be.
func (c *call) noticeLeaseLost(ctx context.Context, r store.Record, err error) {
	if c.leaseLost.CompareAndSwap(false, true) {
		c.notice(ctx, observe.LeaseLost, r, err)
	}
}

// tell counts a notice, logs it, and tells the observers.
func (c *call) tell(ctx context.Context, e observe.Event) {
	e.Store, e.Repeated = c.guard.storeKind, c.guard.repeats.isRepeat(e)
	c.countNotice(ctx, e)
	c.guard.warn(ctx, e)
	for _, o := range c.guard.observers {
		o.tell(ctx, e)
	}
}

// begin tells of the call's beginning. It returns the call's traceparent, and
// what is called at the end, and counts the call.
func (c *call) begin(ctx context.Context, claim observe.Event) (bctx context.Context, traceparent string, end func(observe.Event)) {
	bctx, traceparent, tell := c.guard.begin(ctx, claim)
	return bctx, traceparent, func(e observe.Event) {
		c.count(bctx, e)
		tell(e)
	}
}

// shown returns what observers may see of a record.
func shown(r store.Record) store.Record {
	r.Key, r.Info.Match = "", ""
	r.Outcome.Data, r.Kept = nil, nil
	return r
}
