package interceptor

import (
	"cmp"

	"go.temporal.io/sdk/converter"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/workflow"
)

// Workflows returns the part of a Guard that works beside workflows, for
// worker.Options.Interceptors of a worker that runs them without a Guard. It
// puts a header on each activity call, by which scopes PerRun and PerCall know
// the call again after a reset, and does nothing else.
//
// Replay does not look at headers: it can be added and removed while workflows
// run. Calls that were scheduled without it stay without the header.
//
// The header holds two run IDs, a count of calls of equal input, and what the
// workflow says about retries. Inputs are compared as the SDK's default converter
// encodes them.
func Workflows() sdkinterceptor.WorkerInterceptor { return &workflows{} }

type workflows struct {
	sdkinterceptor.WorkerInterceptorBase
}

// InterceptWorkflow implements the SDK's WorkerInterceptor.
func (*workflows) InterceptWorkflow(_ workflow.Context, next sdkinterceptor.WorkflowInboundInterceptor) sdkinterceptor.WorkflowInboundInterceptor {
	return newWorkflowInbound(nil, next)
}

type workflowInbound struct {
	sdkinterceptor.WorkflowInboundInterceptorBase
	summary func(activity string) string // of a call; nil: it is Workflows
}

func newWorkflowInbound(summary func(activity string) string, next sdkinterceptor.WorkflowInboundInterceptor) *workflowInbound {
	w := &workflowInbound{summary: summary}
	w.Next = next
	return w
}

// Init implements the SDK's WorkflowInboundInterceptor.
func (w *workflowInbound) Init(outbound sdkinterceptor.WorkflowOutboundInterceptor) error {
	o := &workflowOutbound{summary: w.summary, made: map[equalCalls]*counted{}, inputs: map[string]int32{}}
	o.Next = outbound
	return w.Next.Init(o)
}

// workflowOutbound counts the activity calls of one run. A replay makes the same
// calls in the same order, and one goroutine of a workflow runs at a time.
type workflowOutbound struct {
	sdkinterceptor.WorkflowOutboundInterceptorBase
	summary func(activity string) string
	made    map[equalCalls]*counted
	inputs  map[string]int32 // how many there were, by activity type
}

type equalCalls struct{ activity, input string }

type counted struct {
	input int32 // which one it is of its activity type's, from 1
	calls int32
}

// ExecuteActivity implements the SDK's WorkflowOutboundInterceptor.
func (o *workflowOutbound) ExecuteActivity(ctx workflow.Context, activity string, args ...any) workflow.Future {
	o.name(ctx, activity, args, false)
	ctx = o.summarize(ctx, activity)
	return o.Next.ExecuteActivity(ctx, activity, args...)
}

// ExecuteLocalActivity implements the SDK's WorkflowOutboundInterceptor.
func (o *workflowOutbound) ExecuteLocalActivity(ctx workflow.Context, activity string, args ...any) workflow.Future {
	o.name(ctx, activity, args, true)
	return o.Next.ExecuteLocalActivity(ctx, activity, args...)
}

// name puts the header on a call. An interceptor that repeats the call makes
// another one, with the same map of headers.
func (o *workflowOutbound) name(ctx workflow.Context, activity string, args []any, local bool) {
	header := sdkinterceptor.WorkflowHeader(ctx)
	if header == nil {
		return
	}
	info := o.Next.GetInfo(ctx)
	run := info.WorkflowExecution.RunID
	equal := equalCalls{activity, inputOf(args)}
	n := o.count(equal)
	// The SDK's test environment has only the run ID.
	h := callHeader{
		OriginalRunID: cmp.Or(info.OriginalRunID, run), FirstRunID: cmp.Or(info.FirstRunID, run), Occurrence: n.calls, Input: n.input,
	}
	if !local {
		h.Retry = newRetryHeader(workflow.GetActivityOptions(ctx).RetryPolicy)
	} else {
		// An attempt can modify its arguments, which the next one gets. This header
		// stays in the process.
		h.Digest = equal.input
	}
	// The default converter: a client's own may encrypt, which takes time and gives
	// other bytes in a replay.
	payload, err := converter.GetDefaultDataConverter().ToPayload(h)
	if err == nil {
		header[headerName] = payload
	}
}

// summarize says on the call how it is guarded. Replay does not compare summaries.
func (o *workflowOutbound) summarize(ctx workflow.Context, activity string) workflow.Context {
	options := workflow.GetActivityOptions(ctx)
	if o.summary == nil || options.Summary != "" {
		return ctx
	}
	if options.Summary = o.summary(activity); options.Summary == "" {
		return ctx
	}
	return workflow.WithActivityOptions(ctx, options)
}

func (o *workflowOutbound) count(equal equalCalls) counted {
	n := o.made[equal]
	if n == nil {
		o.inputs[equal.activity]++
		n = &counted{input: o.inputs[equal.activity]}
		o.made[equal] = n
	}
	n.calls++
	return *n
}

// inputOf returns the digest of args. Those that the default converter cannot
// encode count as equal, and so are numbered through.
func inputOf(args []any) (digest string) {
	defer func() {
		if recover() != nil { // from a method of an argument
			digest = ""
		}
	}()
	payloads, err := reencoded(args)
	if err != nil {
		return ""
	}
	return digestOf(payloads)
}
