package interceptor_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"google.golang.org/protobuf/proto"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

// goldenSetup is how the guard and the client of a scene are set up.
type goldenSetup struct {
	policy  once.Policy
	options func(*interceptor.Options)
	data    converter.DataConverter    // the client's; nil: the SDK's
	failure converter.FailureConverter // the client's; nil: the SDK's
	header  string                     // of the call, as the guard's workflow side sends it
	local   bool
	worker  bool // the guard is a plugin of the worker, and not of the client
	hurried bool // Temporal waits for the attempt's end for no longer than a second
}

// goldenScene leaves one record, which is that of the scene's activity. Its parts
// come one after the other, with more than the settle delay between the first two.
type goldenScene struct {
	goldenSetup
	first func(*goldenRun)
	then  func(*goldenRun)
	// during begins what goes on while the store is read, and returns its end.
	during func(*goldenRun) (finish func())
	// dup is the body of a duplicate, whose answer shows that it ran, and in is its
	// input; nil: goldenAgain and goldenInput.
	dup, in any
	// more are calls of a later build besides the duplicate, each after the other.
	more []goldenMore
}

type goldenMore struct {
	name string
	call func(*goldenRun) *goldenAnswer
}

// goldenRun is a scene on a store.
type goldenRun struct {
	t     *testing.T
	name  string // of the scene, and of its activity
	scene goldenScene
	store store.Store
	key   string // once the record is there
	token string // of a call that was left to others
}

const (
	goldenLease  = 6 * time.Second // of which a slow machine takes no third
	goldenSettle = goldenLease/3 + time.Millisecond
)

var (
	goldenAgain  = receipt{ID: "it ran again"}
	goldenDeclin = temporal.NewApplicationErrorWithOptions("declined", "Declined", temporal.ApplicationErrorOptions{
		Cause:   temporal.NewApplicationErrorWithCause("no funds", "Funds", errors.New("account 12"), charge{Order: "8", Cents: 5}),
		Details: []any{42, "x"}, Category: temporal.ApplicationErrorCategoryBenign, NextRetryDelay: time.Hour,
	})
	goldenBroken = temporal.NewApplicationErrorWithCause("reset by peer", "ConnReset", io.EOF, "details")
)

// goldenGives is a body that returns these.
func goldenGives[In, Out any](value Out, err error) func(context.Context, In) (Out, error) {
	return func(context.Context, In) (Out, error) { return value, err }
}

func goldenReceipt(id string) func(context.Context, charge) (receipt, error) {
	return goldenGives[charge](receipt{ID: id}, nil)
}

func goldenFails(err error) func(context.Context, charge) (receipt, error) {
	return goldenGives[charge](receipt{}, err)
}

// goldenSeal is an encryption that gives the same bytes each time.
type goldenSeal struct{}

// Encode implements converter.PayloadCodec.
func (goldenSeal) Encode(ps []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out := make([]*commonpb.Payload, len(ps))
	for i, p := range ps {
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(p)
		if err != nil {
			return nil, err
		}
		out[i] = &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte("binary/golden")}, Data: goldenMask(data)}
	}
	return out, nil
}

// Decode implements converter.PayloadCodec.
func (goldenSeal) Decode(ps []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out := make([]*commonpb.Payload, len(ps))
	for i, p := range ps {
		out[i] = &commonpb.Payload{}
		if err := proto.Unmarshal(goldenMask(p.GetData()), out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func goldenMask(data []byte) []byte {
	out := make([]byte, len(data))
	for i, b := range data {
		out[i] = b ^ 0x5a
	}
	return out
}

func goldenSealed() converter.DataConverter {
	return converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), goldenSeal{})
}

// environment returns one of a worker that has the scene's guard, and the guard.
// change, if not nil, alters the policy.
func (r *goldenRun) environment(change func(*once.Policy)) (*testsuite.TestActivityEnvironment, *interceptor.Guard) {
	r.t.Helper()
	p := r.scene.policy
	p.TTL = once.Forever // a golden record is read years later
	if change != nil {
		change(&p)
	}
	o := interceptor.Options{Activities: once.Mark(p, r.name), Lease: goldenLease, SettleDelay: goldenSettle, HoldRetry: 7 * time.Second}
	if r.scene.options != nil {
		r.scene.options(&o)
	}
	if r.scene.worker {
		o.DataConverter = converter.GetDefaultDataConverter()
	}
	g, err := interceptor.New(r.store, o)
	require.NoError(r.t, err)
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(quiet)
	env := suite.NewTestActivityEnvironment()
	w := worker.Options{Plugins: []worker.Plugin{g}}
	if r.scene.hurried {
		w.Interceptors = append(w.Interceptors, &goldenHurry{})
	}
	env.SetWorkerOptions(w)
	if r.scene.worker {
		return env, g
	}
	c := client.Options{DataConverter: r.scene.data, FailureConverter: r.scene.failure}
	require.NoError(r.t, g.ConfigureClient(r.t.Context(), client.PluginConfigureClientOptions{ClientOptions: &c}))
	require.NoError(r.t, g.NewClient(r.t.Context(), client.PluginNewClientOptions{ClientOptions: c},
		func(context.Context, client.PluginNewClientOptions) error { return nil }))
	env.SetDataConverter(c.DataConverter)
	env.SetContextPropagators(c.ContextPropagators)
	if c.FailureConverter != nil {
		env.SetFailureConverter(c.FailureConverter)
	}
	return env, g
}

// goldenHurry shows the guard a deadline that is near.
type goldenHurry struct {
	sdkinterceptor.WorkerInterceptorBase
}

type goldenInbound struct {
	sdkinterceptor.ActivityInboundInterceptorBase
}

type goldenOutbound struct {
	sdkinterceptor.ActivityOutboundInterceptorBase
}

// InterceptActivity implements the SDK's WorkerInterceptor.
func (*goldenHurry) InterceptActivity(_ context.Context, next sdkinterceptor.ActivityInboundInterceptor) sdkinterceptor.ActivityInboundInterceptor {
	i := &goldenInbound{}
	i.Next = next
	return i
}

// Init implements the SDK's ActivityInboundInterceptor.
func (i *goldenInbound) Init(out sdkinterceptor.ActivityOutboundInterceptor) error {
	o := &goldenOutbound{}
	o.Next = out
	return i.Next.Init(o)
}

// GetInfo implements the SDK's ActivityOutboundInterceptor.
func (o *goldenOutbound) GetInfo(ctx context.Context) sdkactivity.Info {
	info := o.Next.GetInfo(ctx)
	info.Deadline = time.Now().Add(time.Second)
	return info
}

// call makes a call of the scene's activity.
func (r *goldenRun) call(body, in any) *goldenAnswer { return r.callUnder(nil, body, in) }

func (r *goldenRun) callUnder(change func(*once.Policy), body, in any) *goldenAnswer {
	r.t.Helper()
	env, _ := r.environment(change)
	fields := map[string]*commonpb.Payload{}
	if r.scene.header != "" {
		fields["atmostonce"] = &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: []byte(r.scene.header)}
	}
	env.SetHeader(&commonpb.Header{Fields: fields})
	env.RegisterActivityWithOptions(body, sdkactivity.RegisterOptions{Name: r.name})
	if r.scene.local {
		return newGoldenAnswer(env.ExecuteLocalActivity(body, in))
	}
	return newGoldenAnswer(env.ExecuteActivity(r.name, in))
}

// runs makes a call, with the usual input, whose body must run.
func (r *goldenRun) runs(body func(context.Context, charge) (receipt, error)) *goldenAnswer {
	r.t.Helper()
	ran := false
	answer := r.call(func(ctx context.Context, in charge) (receipt, error) {
		ran = true
		return body(ctx, in)
	}, goldenInput)
	require.True(r.t, ran, "%s: %+v", r.name, answer)
	return answer
}

// begin makes a call beside the test, and returns once its body runs.
func (r *goldenRun) begin(body func(context.Context, charge) (receipt, error)) (finish func()) {
	began, end, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		r.call(func(ctx context.Context, in charge) (receipt, error) {
			close(began)
			<-end
			return body(ctx, in)
		}, goldenInput)
	}()
	select {
	case <-began:
	case <-done:
		require.Fail(r.t, "the body did not run", r.name)
	}
	return func() {
		close(end)
		<-done
	}
}

// record returns the scene's record.
func (r *goldenRun) record() store.Record {
	r.t.Helper()
	if r.key == "" {
		for found, err := range r.store.List(r.t.Context(), store.Query{Activity: r.name}) {
			require.NoError(r.t, err)
			require.Empty(r.t, r.key, "two records of %s", r.name)
			r.key = found.Key
		}
	}
	found, err := r.store.Load(r.t.Context(), r.key)
	require.NoError(r.t, err)
	return found
}

func (r *goldenRun) resolve(f resolve.Finding, force bool) {
	r.t.Helper()
	_, g := r.environment(nil)
	_, err := g.Resolve(r.t.Context(), r.record(), f, resolve.Decision{By: "ann", Why: "asked the provider", Force: force})
	require.NoError(r.t, err)
}

// goldenClient gets the ends of activities.
type goldenClient struct{ client.Client }

// CompleteActivityWithOptions implements client.Client.
func (goldenClient) CompleteActivityWithOptions(context.Context, client.CompleteActivityOptions) error {
	return nil
}

// complete reports the end of the call of the token.
func (r *goldenRun) complete(result any, failure error) {
	r.t.Helper()
	_, g := r.environment(nil)
	require.NoError(r.t, g.Complete(r.t.Context(), goldenClient{}, r.token, result, failure))
}

var goldenInput = charge{Order: "7", Cents: 100}

// goldenDoubted is a scene whose record is in doubt at first.
func goldenDoubted(then func(*goldenRun)) goldenScene {
	return goldenScene{
		first: func(r *goldenRun) { r.runs(goldenFails(once.MaybeDone(goldenBroken))) },
		then:  then,
	}
}

func (s goldenScene) under(p once.Policy) goldenScene {
	s.policy = p
	return s
}

// goldenDone is a scene whose call succeeds under this setup.
func goldenDone(setup goldenSetup) goldenScene {
	return goldenScene{goldenSetup: setup, first: func(r *goldenRun) { r.runs(goldenReceipt("r-7")) }}
}

// leaves makes a call whose end is left to others.
func (r *goldenRun) leaves() {
	r.t.Helper()
	r.runs(func(ctx context.Context, _ charge) (receipt, error) {
		claim, ok := once.FromContext(ctx)
		require.True(r.t, ok)
		r.token = claim.Token()
		return receipt{}, sdkactivity.ErrResultPending
	})
}

// goldenLeft is a scene whose call is left to others.
func goldenLeft(more string, report func(*goldenRun)) goldenScene {
	return goldenScene{
		goldenSetup: goldenSetup{policy: once.Policy{OnFailure: once.Lock}, hurried: true},
		first:       (*goldenRun).leaves,
		more: []goldenMore{{more, func(r *goldenRun) *goldenAnswer {
			report(r)
			return r.call(goldenReceipt(goldenAgain.ID), goldenInput)
		}}},
	}
}

func goldenFind(found receipt, err error) once.Policy {
	return once.Policy{InDoubt: once.Reconcile(goldenGives[charge](found, err))}
}

// goldenScenes are the records of a store, by the name of the activity that leaves
// each.
func goldenScenes() map[string]goldenScene {
	execution := func(id string) *commonpb.WorkflowExecution { return &commonpb.WorkflowExecution{WorkflowId: id} }
	first := `{"originalRunId":"o","firstRunId":"f","occurrence":1,"input":1}`
	byOrderID := once.Policy{Key: keys.From(func(in charge) string { return in.Order }), Scope: keys.PerNamespace}
	matched := byOrderID
	matched.Match = keys.From(func(in charge) string { return in.Order + "\xff" })
	secret := func(o *interceptor.Options) { o.KeySecret = []byte("0123456789abcdef") }
	sealing := func(o *interceptor.Options) { o.DataConverter = goldenSealed() }
	client := goldenSetup{data: goldenSealed(), failure: temporal.NewDefaultFailureConverter(temporal.DefaultFailureConverterOptions{
		DataConverter: goldenSealed(), EncodeCommonAttributes: true,
	})}
	locked := func(setup goldenSetup) goldenScene {
		setup.policy.OnFailure = once.Lock
		return goldenScene{goldenSetup: setup, first: func(r *goldenRun) { r.runs(goldenFails(goldenDeclin)) }}
	}

	result := goldenDone(goldenSetup{})
	result.more = []goldenMore{{"under Reject", func(r *goldenRun) *goldenAnswer {
		return r.callUnder(func(p *once.Policy) { p.OnDuplicate = once.Reject }, goldenReceipt(goldenAgain.ID), goldenInput)
	}}}
	match := goldenDone(goldenSetup{policy: matched})
	match.more = []goldenMore{{"of another sum", func(r *goldenRun) *goldenAnswer {
		return r.call(goldenReceipt(goldenAgain.ID), charge{Order: "7", Cents: 101})
	}}}
	keyed := goldenDone(goldenSetup{policy: byOrderID})
	keyed.more = []goldenMore{{"of another sum", match.more[0].call}}
	sealedDoubt := goldenDoubted(nil)
	sealedDoubt.options = sealing
	reranPending := goldenLeft("after its result", func(r *goldenRun) { r.complete(receipt{ID: "from outside"}, nil) })
	reranPending.policy.InDoubt, reranPending.first, reranPending.then = once.Rerun, goldenDoubted(nil).first, (*goldenRun).leaves

	return map[string]goldenScene{
		"Result":          result,
		"ResultOfAWorker": goldenDone(goldenSetup{worker: true}),
		"ResultOfALocal":  goldenDone(goldenSetup{local: true}),
		"NoResult": {
			first: func(r *goldenRun) { r.call(func(context.Context, charge) error { return nil }, goldenInput) },
			dup:   func(context.Context, charge) error { return errors.New(goldenAgain.ID) },
		},
		"Protobuf": {
			goldenSetup: goldenSetup{data: converter.NewCompositeDataConverter(converter.NewNilPayloadConverter(),
				converter.NewByteSlicePayloadConverter(), converter.NewProtoPayloadConverter(), converter.NewJSONPayloadConverter())},
			first: func(r *goldenRun) {
				r.call(goldenGives[*commonpb.WorkflowExecution](execution("r-7"), nil), execution("7"))
			},
			dup: goldenGives[*commonpb.WorkflowExecution](execution(goldenAgain.ID), nil),
			in:  execution("7"),
		},
		"NotKept":      goldenDone(goldenSetup{options: func(o *interceptor.Options) { o.MaxOutcome = 8 }}),
		"Secret":       goldenDone(goldenSetup{options: secret}),
		"SecretKey":    goldenDone(goldenSetup{options: secret, policy: matched}),
		"Keyed":        keyed,
		"Match":        match,
		"PerRun":       goldenDone(goldenSetup{policy: once.Policy{Scope: keys.PerRun}, header: first}),
		"PerRunNoHead": goldenDone(goldenSetup{policy: once.Policy{Scope: keys.PerRun}}),
		"PerCall":      goldenDone(goldenSetup{policy: once.Policy{Scope: keys.PerCall}, header: first}),
		"Sealed":       goldenDone(goldenSetup{options: sealing}),
		"SealedClient": goldenDone(client),

		"Failed":             locked(goldenSetup{}),
		"FailedSealed":       locked(goldenSetup{options: sealing}),
		"FailedSealedClient": locked(client),

		"Doubt":       goldenDoubted(nil),
		"DoubtSealed": sealedDoubt,
		"DoubtFails":  goldenDoubted(nil).under(once.Policy{InDoubt: once.Fail}),
		"DoubtReruns": goldenDoubted(nil).under(once.Policy{InDoubt: once.Rerun}),
		"DoubtAsks":   goldenDoubted(nil).under(goldenFind(receipt{ID: "found"}, nil)),
		"Panic": {first: func(r *goldenRun) {
			r.runs(func(context.Context, charge) (receipt, error) { panic("at the disco") })
		}},
		"Running":       {during: func(r *goldenRun) func() { return r.begin(goldenReceipt("r-7")) }},
		"Pending":       goldenLeft("after its result", func(r *goldenRun) { r.complete(receipt{ID: "from outside"}, nil) }),
		"PendingFailed": goldenLeft("after its failure", func(r *goldenRun) { r.complete(nil, goldenDeclin) }),

		"ReranPending": reranPending,

		"Released": {first: func(r *goldenRun) { r.runs(goldenFails(errors.New("declined"))) }},
		"ReleasedTwice": {first: func(r *goldenRun) {
			r.runs(goldenFails(errors.New("declined")))
			r.runs(goldenFails(errors.New("declined")))
		}},
		"Reran":         goldenDoubted(func(r *goldenRun) { r.runs(goldenReceipt("second")) }).under(once.Policy{InDoubt: once.Rerun}),
		"ReranInDoubt":  goldenDoubted(func(r *goldenRun) { r.runs(goldenFails(errors.New("declined"))) }).under(once.Policy{InDoubt: once.Rerun}),
		"Found":         goldenDoubted(func(r *goldenRun) { r.call(goldenReceipt("second"), goldenInput) }).under(goldenFind(receipt{ID: "found"}, nil)),
		"NotFound":      goldenDoubted(func(r *goldenRun) { r.runs(goldenReceipt("second")) }).under(goldenFind(receipt{}, once.ErrNotDone)),
		"NotFoundFreed": goldenDoubted(func(r *goldenRun) { r.runs(goldenFails(errors.New("declined"))) }).under(goldenFind(receipt{}, once.ErrNotDone)),

		"ResolvedDone":    goldenDoubted(func(r *goldenRun) { r.resolve(resolve.AsDone(receipt{ID: "by hand"}), false) }),
		"ResolvedFailed":  goldenDoubted(func(r *goldenRun) { r.resolve(resolve.AsFailed(goldenDeclin), false) }),
		"ResolvedNotDone": goldenDoubted(func(r *goldenRun) { r.resolve(resolve.AsNotDone(), false) }),
		"Reopened": {
			first: func(r *goldenRun) { r.runs(goldenReceipt("r-7")) },
			then: func(r *goldenRun) {
				r.resolve(resolve.AsNotDone(), false)
				r.runs(goldenReceipt("second"))
			},
		},
		"Erased": {first: func(r *goldenRun) {
			r.runs(goldenReceipt("r-7"))
			_, g := r.environment(nil)
			_, err := g.Forget(r.t.Context(), r.record(), resolve.Decision{By: "ann", Why: "request 4711"})
			require.NoError(r.t, err)
		}},

		// A success that an operator had excluded.
		"Conflict": {first: func(r *goldenRun) {
			r.runs(func(context.Context, charge) (receipt, error) {
				r.resolve(resolve.AsFailed(errors.New("it cannot have happened")), true)
				return receipt{ID: "late"}, nil
			})
		}},
		// A success beside a successor that still runs, and beside one that gave up.
		"Kept": {during: goldenSuperseded},
		"Superseded": {first: func(r *goldenRun) {
			finish := goldenSuperseded(r)
			finish()
		}},
	}
}

// goldenSuperseded has a call succeed while another one runs, which fails at the end.
func goldenSuperseded(r *goldenRun) (finish func()) {
	r.runs(func(context.Context, charge) (receipt, error) {
		r.resolve(resolve.AsNotDone(), true)
		finish = r.begin(goldenFails(once.MaybeDone(goldenBroken)))
		return receipt{ID: "late"}, nil
	})
	return finish
}
