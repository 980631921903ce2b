package interceptor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/internal/engine"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

// Options are the options of New. Only Activities is required.
type Options struct {
	// Activities are the marks: once.Mark(…), and once.Exempt(…) under Strict. At
	// least one.
	Activities []once.Marked
	// Defaults stand in for what a mark's policy does not say.
	Defaults once.Policy
	// Strict refuses to start a worker on which an activity is registered that
	// is neither marked nor exempt. A mark of once.All does not count.
	Strict bool

	// Mode, if not nil, is asked at each call how much to do about its activity:
	// a switch to try the guard on a running system, and to turn it off. It must
	// be fast and may be called from any number of goroutines. Defaults to Enforce.
	Mode func(activity string) once.Mode
	// DistrustBefore is when the guard was put on a system that had run without
	// it. A call that was scheduled before, and that left no record, may have had
	// its effect: it is in doubt in every attempt, since a reset of the activity
	// sets their number back to 1. Zero trusts.
	DistrustBefore time.Time

	// KeySecret, if set, hides the inputs and what the key functions return behind
	// an HMAC-SHA256, in keys and records: a plain digest of a low-entropy input can be
	// guessed. At least 16 bytes, the same in every process that shares the store;
	// another secret makes other keys, and so forgets.
	KeySecret []byte

	// Lease is how long a running call is presumed alive without a sign of
	// life; it is renewed every third of that. Stores that see a process die
	// need not wait for it. Defaults to 60 s; at least 30 ms.
	Lease time.Duration
	// SettleDelay is how long an effect must have been in doubt before anything
	// is decided about it: a request of its last owner may still be on its way.
	// Must be greater than a third of Lease. Defaults to 30 s.
	SettleDelay time.Duration
	// HoldRetry is how long Temporal waits before it tries again a call that is
	// held. Defaults to 30 s.
	HoldRetry time.Duration
	// MaxOutcome is the size in bytes over which a result is not kept.
	// Duplicates of such a call get an OutcomeNotKept error. A record whose outcome is
	// larger, by more than encryption adds, is refused as a BadRecord. Defaults to
	// 2 MiB, which is Temporal's own limit; at most store.MaxData.
	MaxOutcome int

	// DataConverter, for a guard that is a plugin of the client, seals outcomes for
	// the store: it is for clients whose own DataConverter does not encrypt, because
	// a gRPC interceptor or a proxy does. Temporal gets what it would get without it.
	//
	// A guard that is installed on a worker cannot see the client's converters:
	// there DataConverter and FailureConverter must be the client's, and must encrypt
	// if those do. So must they for a guard without a client, which only resolves or
	// completes; better is a plugin of one (client.NewLazyClient does not connect).
	DataConverter    converter.DataConverter
	FailureConverter converter.FailureConverter

	// CountRecords is how often the guard counts the store's open records, for the
	// metrics atmostonce.records and atmostonce.record.age: in the background,
	// while one of its workers that have activities runs. The guard must be a
	// plugin of that worker. It counts those of other guards that share the store,
	// too. 0, the default, is never; else at least 1 s.
	CountRecords time.Duration

	// Summaries has the guard write into the summary of each call of a marked
	// activity how it is guarded, unless the call has a summary of its own.
	// Temporal's web UI shows it in the workflow's history. The worker that runs
	// the workflow must have the guard. It can be changed while workflows run.
	Summaries bool

	// Observers get what the guard does: package telemetry has one that makes spans.
	// The guard counts in the metrics of Temporal's client, unless one of them is an
	// observe.Recorder; it logs in any case what somebody should look into.
	Observers []observe.Observer
}

// Embedded under other names, since both SDK types are called PluginBase.
type (
	clientPluginBase = client.PluginBase //nolint:unused // it is embedded in Guard
	workerPluginBase = worker.PluginBase
)

// Guard makes marked activities take effect at most once per key. It is a
// plugin of a client, which is the way to install it; a plugin of a worker; and
// a worker interceptor. One Guard serves any number of clients and workers, and
// its methods may be called from any number of goroutines.
type Guard struct {
	clientPluginBase //nolint:unused // client.Plugin demands it
	workerPluginBase
	sdkinterceptor.WorkerInterceptorBase

	engine   *engine.Engine
	options  Options
	clients  *clients
	registry *registry
	plain    *workerGuard // serves workers that list the Guard as an interceptor

	mu      sync.Mutex
	workers map[string]*workerGuard // by worker instance key
}

// errOptions is the sentinel of everything that New refuses.
var errOptions = errors.New("atmostonce")

// New returns a guard over s. It reports everything that is wrong with the marks
// and options at once, except what only a worker's registrations reveal: that comes
// when the worker starts.
func New(s store.Store, o Options) (*Guard, error) {
	var errs []error
	errs = append(errs, engine.CheckStore(s))
	ours, err := o.engine().Complete()
	errs = append(errs, err)
	o.MaxOutcome = ours.MaxOutcome
	if err := o.Defaults.Validate(); err != nil && len(o.Activities) > 0 {
		errs = append(errs, fmt.Errorf("Defaults: %w", err))
	}
	marks, err := newMarks(o.Activities, o.Defaults, o.Strict, o.Mode)
	errs = append(errs, err)
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("%w: %w", errOptions, err)
	}
	g := &Guard{options: o, clients: &clients{}, registry: newRegistry(marks), workers: map[string]*workerGuard{}}
	if o.DataConverter != nil {
		g.clients.own = newConverters(o.DataConverter, o.FailureConverter)
		g.clients.own.own, g.clients.own.limit = true, o.MaxOutcome
	}
	g.engine = engine.New(s, ours, g.clients)
	g.plain = newWorkerGuard(g, g.registry.plain)
	return g, nil
}

// engine returns the options that are the engine's.
func (o Options) engine() engine.Options {
	return engine.Options{
		DistrustBefore: o.DistrustBefore, KeySecret: o.KeySecret, Lease: o.Lease, SettleDelay: o.SettleDelay, HoldRetry: o.HoldRetry,
		MaxOutcome: o.MaxOutcome, CountRecords: o.CountRecords, Observers: o.Observers,
	}
}

// Name implements the plugin interfaces of the SDK.
func (g *Guard) Name() string { return "atmostonce" }

// InterceptActivity implements the SDK's WorkerInterceptor. An activity that is
// not marked is passed through untouched. Installed in this way only, the guard
// sees no registrations: it guards what is marked by name, and refuses a call that
// may be of a marked function with a BadSetup error.
func (g *Guard) InterceptActivity(ctx context.Context, next sdkinterceptor.ActivityInboundInterceptor) sdkinterceptor.ActivityInboundInterceptor {
	return g.plain.InterceptActivity(ctx, next)
}

// InterceptWorkflow implements the SDK's WorkerInterceptor as [Workflows] does.
func (g *Guard) InterceptWorkflow(_ workflow.Context, next sdkinterceptor.WorkflowInboundInterceptor) sdkinterceptor.WorkflowInboundInterceptor {
	return newWorkflowInbound(g.summary, next)
}

// Version reports the version of this module to Temporal, whose worker heartbeats
// carry it.
func (g *Guard) Version() string { return observe.Version }

// summary says how an activity is guarded, for the history; "" if nothing is to be said.
func (g *Guard) summary(activity string) string {
	if !g.options.Summaries {
		return ""
	}
	m, marked := g.registry.find(activity)
	if !marked || m.rank == ofAll {
		return ""
	}
	p := m.policy
	return fmt.Sprintf("at most once: %v, OnDuplicate %v, InDoubt %v", p.Scope, p.OnDuplicate, p.InDoubt)
}
