package telemetry_test

import (
	"cmp"
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"
	commonpb "go.temporal.io/api/common/v1"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

// attempt is one of an activity, as Temporal shows it. Its zero fields are
// those of another call of the same workflow ID, in another run.
type attempt struct {
	run, activity string
	number        int32
	last          bool          // no other follows
	within        time.Duration // StartToClose; defaults to 5 minutes
	left          time.Duration // of ScheduleToClose; unlimited by default
	local         bool
	standalone    bool
	header        string // of the guard's on the workflow's worker
}

var (
	// original is the attempt that has the key in most tests.
	original = attempt{run: "run-1", activity: "3"}
	retry    = attempt{run: "run-1", activity: "3", number: 2}
	// repeat is another call in the same run.
	repeat = attempt{run: "run-1", activity: "5"}
)

const orderWorkflow = "order-7"

func (a attempt) info(i sdkactivity.Info, scheduled time.Time) sdkactivity.Info {
	i.Attempt = max(a.number, 1)
	i.ActivityID = cmp.Or(a.activity, "4")
	if a.standalone {
		i.ActivityRunID = "standalone-" + i.ActivityID
	} else {
		i.WorkflowExecution = workflow.Execution{ID: orderWorkflow, RunID: cmp.Or(a.run, "run-2")}
	}
	i.ScheduledTime = scheduled
	i.StartToCloseTimeout, i.ScheduleToCloseTimeout = a.timeout(), 0
	i.Deadline = time.Now().Add(a.timeout())
	i.RetryPolicy = &temporal.RetryPolicy{MaximumInterval: time.Minute}
	if a.left > 0 {
		i.ScheduleToCloseTimeout = a.left + time.Since(scheduled)
	}
	if a.last {
		i.RetryPolicy.MaximumAttempts = i.Attempt
	}
	return i
}

func (a attempt) timeout() time.Duration { return cmp.Or(a.within, 5*time.Minute) }

// shaping makes the attempts of a worker into one, and puts a span around it.
type shaping struct {
	sdkinterceptor.WorkerInterceptorBase
	attempt   attempt
	scheduled time.Time
	around    func(context.Context) (context.Context, context.CancelFunc)
}

func (s *shaping) InterceptActivity(_ context.Context, next sdkinterceptor.ActivityInboundInterceptor) sdkinterceptor.ActivityInboundInterceptor {
	i := &shapingInbound{shaping: s}
	i.Next = next
	return i
}

type shapingInbound struct {
	sdkinterceptor.ActivityInboundInterceptorBase
	shaping *shaping
}

func (i *shapingInbound) Init(outbound sdkinterceptor.ActivityOutboundInterceptor) error {
	o := &shapedOutbound{shaping: i.shaping}
	o.Next = outbound
	return i.Next.Init(o)
}

func (i *shapingInbound) ExecuteActivity(ctx context.Context, in *sdkinterceptor.ExecuteActivityInput) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, i.shaping.attempt.timeout())
	defer cancel()
	if i.shaping.around != nil {
		var end context.CancelFunc
		ctx, end = i.shaping.around(ctx)
		defer end()
	}
	return i.Next.ExecuteActivity(ctx, in)
}

type shapedOutbound struct {
	sdkinterceptor.ActivityOutboundInterceptorBase
	shaping *shaping
}

func (o *shapedOutbound) GetInfo(ctx context.Context) sdkactivity.Info {
	return o.shaping.attempt.info(o.Next.GetInfo(ctx), o.shaping.scheduled)
}

// body serves ChargeCard.
type body func(context.Context, charge) (any, error)

// world is a bench with a past: calls that its telemetry has not seen.
type world struct {
	*bench
	t       *testing.T
	policy  once.Policy
	store   *hooked
	quiet   *interceptor.Guard // of the past
	began   time.Time
	sampled bool // the past
	key     string
	match   string
	beside  sync.WaitGroup          // what goes on beside the call
	stop    chan struct{}           // closed when the worker stops
	cancel  context.CancelCauseFunc // of the call that is looked at
	err     error                   // its answer
	late    owner                   // for what comes late
}

const (
	originalTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	originalSpan  = "00f067aa0ba902b7"
)

// past is an observer that only says where the original's span is.
type past struct{ traceparent string }

func (past) Begin(ctx context.Context, _ observe.Event) (context.Context, func(observe.Event)) {
	return ctx, func(observe.Event) {}
}

func (p past) Traceparent(context.Context) string { return p.traceparent }

func (w *world) originalTraceparent() string {
	flags := "-00"
	if w.sampled {
		flags = "-01"
	}
	return "00-" + originalTrace + "-" + originalSpan + flags
}

// secret is in every key, input, result and error of the paths.
const secret = "4111-1111-1111-1111"

// quotable is in the errors of stores and key functions, which the worker's log
// quotes, and nothing else does.
const quotable = "10.0.0.7:6379"

var input = charge{Order: secret, Note: secret}

func newWorld(t *testing.T, s setup, sampled bool) *world {
	t.Helper()
	w := &world{
		t: t, store: &hooked{Memory: store.NewMemory(store.MemoryOptions{})}, began: time.Now(), sampled: sampled,
		stop: make(chan struct{}),
	}
	if s.policy.Key.IsZero() {
		s.policy.Key, s.policy.Scope = keys.From(byOrder), keys.PerWorkflow
	}
	s.store = w.store
	w.policy = s.policy
	w.bench = newBench(t, s)
	s.change = nil // the past enforced
	w.quiet = newGuard(t, s, past{w.originalTraceparent()})
	call := keys.Call{Namespace: "default-test-namespace", WorkflowID: orderWorkflow, RunID: "run-2", Activity: "ChargeCard", Args: []any{input}, Input: "digest"}
	w.key, _ = keys.Make(s.policy.Scope, s.policy.Key, call)
	w.match, _ = s.policy.Match.Part(call)
	return w
}

// earlier makes a call that the telemetry does not see.
func (w *world) earlier(a attempt, f body) error {
	quiet := &bench{guard: w.quiet, temporal: newHandler(), lines: &lines{}}
	env := quiet.environment(f, &shaping{attempt: a, scheduled: w.began})
	env.SetExecuteActivitiesInWorkflow(!a.standalone)
	env.SetHeader(w.header(a))
	_, err := env.ExecuteActivity("ChargeCard", input)
	return err
}

// claim is a claim of the original attempt, without a body.
func (w *world) claim() owner {
	w.t.Helper()
	return w.claimedBy(original.run)
}

// claimedBy is a claim of that run.
func (w *world) claimedBy(run string) owner {
	w.t.Helper()
	o := w.bidOf(run)
	r, err := o.store.Acquire(context.Background(), o.bid)
	require.NoError(w.t, err)
	require.True(w.t, r.Owned(o.bid.Owner))
	o.bid.Fence = r.Fence
	return o
}

// takeOver lets the original take over from another run.
func (w *world) takeOver(from store.Record) owner {
	o := w.bidOf(original.run)
	r, err := o.store.Takeover(context.Background(), o.bid, from)
	require.NoError(w.t, err)
	o.bid.Fence = r.Fence
	return o
}

func (w *world) bidOf(run string) owner {
	return owner{w.t, w.store.Memory, store.Bid{
		Key: w.key, Owner: run, Lease: lease, TTL: time.Hour, Deadline: original.timeout(),
		Info: store.Info{Activity: "ChargeCard", Match: w.match, Trace: w.originalTraceparent(), Holder: store.Holder{
			Namespace: "default-test-namespace", WorkflowID: orderWorkflow, RunID: run, ActivityID: original.activity,
			Scheduled: w.began, Attempt: 1,
		}},
	}}
}

// owner has the key.
type owner struct {
	t     *testing.T
	store *store.Memory
	bid   store.Bid
}

func (o owner) settle(outcome store.Outcome) store.Record {
	r, err := o.store.Settle(context.Background(), o.bid, outcome)
	require.NoError(o.t, err)
	return r
}

func (o owner) succeed() {
	o.settle(store.Outcome{State: store.Succeeded, Data: []byte("not to be decoded")})
}

func (o owner) doubt() store.Record { return o.settle(store.Outcome{State: store.InDoubt}) }

func (o owner) release() {
	_, err := o.store.Release(context.Background(), o.bid)
	require.NoError(o.t, err)
}

// renew keeps the claim for d.
func (o owner) renew(d time.Duration) {
	for ; d > 0; d -= lease / 2 {
		pass(lease / 2)
		_, err := o.store.Renew(context.Background(), o.bid)
		require.NoError(o.t, err)
	}
}

// pass lets d pass on every clock of the bubble.
func pass(d time.Duration) { <-time.After(d) }

// observe makes the call that is looked at, in a goroutine of its own, as a
// worker does, and returns when all that it left to the background is done too.
func (w *world) observe(p path, surrounding trace.SpanContext) {
	shape := &shaping{attempt: p.call, scheduled: w.began, around: func(ctx context.Context) (context.Context, context.CancelFunc) {
		ctx, w.cancel = context.WithCancelCause(trace.ContextWithSpanContext(ctx, surrounding))
		if p.begun != nil {
			p.begun(w)
		}
		return ctx, func() { w.cancel(nil) }
	}}
	if p.call.run == "" {
		shape.scheduled = time.Now()
	}
	f := p.body
	switch {
	case p.acts != nil:
		f = p.acts(w)
	case f == nil:
		f = succeeding
	}
	w.plain = p.plain
	env := w.environment(f, shape)
	env.SetWorkerStopChannel(w.stop)
	env.SetExecuteActivitiesInWorkflow(!p.call.standalone)
	env.SetHeader(w.header(p.call))
	in := input
	if p.in != nil {
		in = *p.in
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if p.call.local {
			_, w.err = env.ExecuteLocalActivity(f, in)
		} else {
			_, w.err = env.ExecuteActivity("ChargeCard", in)
		}
	}()
	<-ended
	synctest.Wait()
}

// header has the parent's span, and the guard's header if the attempt has one.
func (w *world) header(a attempt) *commonpb.Header {
	header := tracerData(w.t, map[string]string{"traceparent": parentInHeader})
	if a.header != "" {
		header.Fields["atmostonce"] = &commonpb.Payload{
			Metadata: map[string][]byte{converter.MetadataEncoding: []byte(converter.MetadataEncodingJSON)}, Data: []byte(a.header),
		}
	}
	return header
}

func succeeding(context.Context, charge) (any, error) { return secret, nil }
