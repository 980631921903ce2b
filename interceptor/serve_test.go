package interceptor_test

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

// scene is an attempt of a call of order 7 that a test shapes.
type scene struct {
	sdkinterceptor.WorkerInterceptorBase
	over   bool                         // it is canceled before it begins
	within time.Duration                // what the attempt has; 0: what the environment gives
	info   func(info *sdkactivity.Info) // changes what is known of it

	stop   chan struct{} // closed as the worker begins to stop
	cancel context.CancelCauseFunc
	runs   int
	took   time.Duration // until the answer
}

// InterceptActivity implements the SDK's WorkerInterceptor.
func (s *scene) InterceptActivity(_ context.Context, next sdkinterceptor.ActivityInboundInterceptor) sdkinterceptor.ActivityInboundInterceptor {
	i := &sceneInbound{scene: s}
	i.Next = next
	return i
}

type sceneInbound struct {
	sdkinterceptor.ActivityInboundInterceptorBase
	scene *scene
}

// Init implements the SDK's ActivityInboundInterceptor.
func (i *sceneInbound) Init(outbound sdkinterceptor.ActivityOutboundInterceptor) error {
	o := &sceneOutbound{scene: i.scene}
	o.Next = outbound
	return i.Next.Init(o)
}

// ExecuteActivity implements the SDK's ActivityInboundInterceptor.
func (i *sceneInbound) ExecuteActivity(ctx context.Context, in *sdkinterceptor.ExecuteActivityInput) (any, error) {
	began := time.Now()
	defer func() { i.scene.took = time.Since(began) }()
	if i.scene.within > 0 {
		var end context.CancelFunc
		ctx, end = context.WithTimeout(ctx, i.scene.within)
		defer end()
	}
	ctx, i.scene.cancel = context.WithCancelCause(ctx)
	defer i.scene.cancel(nil)
	if i.scene.over {
		i.scene.cancel(nil)
	}
	return i.Next.ExecuteActivity(ctx, in)
}

type sceneOutbound struct {
	sdkinterceptor.ActivityOutboundInterceptorBase
	scene *scene
}

// GetInfo implements the SDK's ActivityOutboundInterceptor.
func (o *sceneOutbound) GetInfo(ctx context.Context) sdkactivity.Info {
	info := o.Next.GetInfo(ctx)
	if o.scene.info != nil {
		o.scene.info(&info)
	}
	return info
}

// play makes the attempt, whose body is given. Without one the end of the activity
// is left to others.
func (s *scene) play(t *testing.T, g *interceptor.Guard, body func(context.Context)) (err error) {
	t.Helper()
	s.stop = make(chan struct{})
	env := environment(t)
	env.SetWorkerStopChannel(s.stop)
	env.SetWorkerOptions(worker.Options{Interceptors: []sdkinterceptor.WorkerInterceptor{s}, Plugins: []worker.Plugin{g}})
	env.RegisterActivityWithOptions(func(ctx context.Context, _ charge) error {
		s.runs++
		if body == nil {
			return sdkactivity.ErrResultPending
		}
		body(ctx)
		return nil
	}, sdkactivity.RegisterOptions{Name: "ChargeCard"})
	_, err = env.ExecuteActivity("ChargeCard", order(7))
	return err
}

func nothing(context.Context) {}

// onlyAttempt is one that no other follows, so that it waits for its store.
func onlyAttempt(info *sdkactivity.Info) {
	info.RetryPolicy = &temporal.RetryPolicy{MaximumAttempts: 1}
}

// losing loses the reply of one claim, and gives that claim back only after the
// next look at the key.
type losing struct {
	*faulty
	looks  atomic.Int32 // since the reply was lost
	lost   atomic.Value // the nonce
	looked chan struct{}
	given  chan struct{}
}

func (s *losing) Acquire(ctx context.Context, b store.Bid) (store.Record, error) {
	r, err := s.faulty.Acquire(ctx, b)
	return r, s.lose(b, err)
}

func (s *losing) Takeover(ctx context.Context, b store.Bid, from store.Record) (store.Record, error) {
	r, err := s.faulty.Takeover(ctx, b, from)
	return r, s.lose(b, err)
}

func (s *losing) lose(b store.Bid, err error) error {
	if errors.Is(err, errNetwork) {
		s.lost.Store(b.Owner)
	} else if s.lost.Load() != nil && s.looks.Add(1) == 1 {
		close(s.looked)
	}
	return err
}

func (s *losing) Release(ctx context.Context, b store.Bid) (store.Record, error) {
	if b.Owner == s.lost.Load() {
		<-s.looked
		defer close(s.given)
	}
	return s.faulty.Release(ctx, b)
}

// Giving back a claim whose reply was lost must not free a claim whose body runs.
func TestStoreDown_GivingALostClaimBackFreesNoOther(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"acquire", "takeover"} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			s := &losing{faulty: newFaulty(), looked: make(chan struct{}), given: make(chan struct{})}
			g := guarded(t, s, once.Policy{InDoubt: once.Rerun})
			if verb == "takeover" {
				inDoubt(t, s, g)
			}
			s.set(verb, fault{applied: true, times: 1})
			call := &scene{info: onlyAttempt}
			require.NoError(t, call.play(t, g, func(context.Context) {
				receive(t, s.given)
				require.Equal(t, store.Running, only(t, s).State, "nobody else may begin")
				require.NotEqual(t, s.lost.Load(), only(t, s).Owner)
			}))
			require.Equal(t, 1, call.runs)
		})
	}
}

// ending ends the attempt while the key is granted to it.
type ending struct {
	*faulty
	end func()
}

func (s *ending) Acquire(ctx context.Context, b store.Bid) (store.Record, error) {
	defer s.end()
	return s.faulty.Acquire(ctx, b)
}

func (s *ending) Takeover(ctx context.Context, b store.Bid, from store.Record) (store.Record, error) {
	defer s.end()
	return s.faulty.Takeover(ctx, b, from)
}

// A claim that comes as the attempt ends is given back as if it had not been.
func TestExecute_DoesNotRunAfterTheContextHasEnded(t *testing.T) {
	t.Parallel()
	for verb, want := range map[string]store.State{"acquire": store.Tombstone, "takeover": store.InDoubt} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			s := &ending{faulty: newFaulty(), end: func() {}}
			g := guarded(t, s, once.Policy{InDoubt: once.Rerun})
			if verb == "takeover" {
				inDoubt(t, s, g)
			}
			call := &scene{}
			s.end = func() {
				if only(t, s).State == store.Running {
					call.cancel(errNetwork)
				}
			}
			require.ErrorContains(t, call.play(t, g, nothing), errNetwork.Error())
			require.Zero(t, call.runs)
			require.Equal(t, want, only(t, s).State)
		})
	}
}

// The answer "not done" is about the time of the question: what is left of the
// attempt must do for the body.
func TestReconcile_NotDoneThatComesTooLateRunsNothing(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]func(*scene){
		"the attempt has ended":            func(s *scene) { s.cancel(nil) },
		"the worker stops":                 func(s *scene) { close(s.stop) },
		"half of the attempt has gone by":  func(*scene) { later(6 * time.Second) },
		"the attempt is over but for that": func(*scene) { later(9500 * time.Millisecond) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, call := memory(), &scene{within: 10 * time.Second}
				tooLate := true
				g := underDefaults(t, s, once.Policy{InDoubt: once.Reconcile(func(context.Context, charge) (receipt, error) {
					if tooLate {
						late(call)
					}
					return receipt{}, once.ErrNotDone
				})})
				_, err := execute(t, g, (&payments{fail: io.ErrUnexpectedEOF}).ChargeCard, order(7))
				require.Error(t, err)
				later(31 * time.Second)
				err = call.play(t, g, nothing)
				require.Zero(t, call.runs)
				requireReason(t, err, once.InDoubt, true)
				require.ErrorContains(t, err, "too little of the attempt was left")
				require.Equal(t, store.InDoubt, only(t, s).State)

				tooLate = false
				require.NoError(t, call.play(t, g, nothing), "in time it runs")
				require.Equal(t, 1, call.runs)
			})
		})
	}
}

// slowly is a store whose settles take so long.
type slowly struct {
	*store.Memory
	takes time.Duration
}

func (s slowly) Settle(ctx context.Context, b store.Bid, o store.Outcome) (store.Record, error) {
	later(s.takes)
	return s.Memory.Settle(ctx, b, o)
}

// An attempt that is over does not wait for its record, which need not be late.
func TestSettleDelayed_IsToldOfASlowWriteOnly(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		body, write, took time.Duration
		told              int
	}{
		"in time":                        {time.Second, 100 * time.Millisecond, 1100 * time.Millisecond, 0},
		"in time, slow":                  {time.Second, 4 * time.Second, 5 * time.Second, 0}, // the answer waits
		"in time, very slow":             {6 * time.Second, 4 * time.Second, 9 * time.Second, 1},
		"after the deadline":             {11 * time.Second, 100 * time.Millisecond, 11 * time.Second, 0},
		"after the deadline, slow":       {11 * time.Second, 3 * time.Second, 11 * time.Second, 1},
		"at the last moment":             {8900 * time.Millisecond, 500 * time.Millisecond, 9 * time.Second, 0},
		"at the last moment, slow":       {8900 * time.Millisecond, 2 * time.Second, 9 * time.Second, 1},
		"after the deadline, and a blip": {11 * time.Second, 0, 11 * time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := options(once.Mark(once.Policy{}, "ChargeCard"))
				notices := newWatch(observe.KindNotice)
				o.Observers = []observe.Observer{notices}
				s := slowly{memory(), c.write}
				g := newGuard(t, s, o)
				call := &scene{within: 10 * time.Second}
				_ = call.play(t, g, func(context.Context) { later(c.body) })
				require.Equal(t, c.took, call.took)
				later(10 * time.Second)
				require.Equal(t, store.Succeeded, only(t, s).State)
				require.Len(t, notices.ended, c.told)
				if c.told > 0 {
					require.Equal(t, observe.SettleDelayed, receive(t, notices.ended).Notice)
				}
			})
		})
	}
}

// superseding refuses the first claim as spent.
type superseding struct {
	*faulty
	owners []string
}

func (s *superseding) Acquire(ctx context.Context, b store.Bid) (store.Record, error) {
	s.owners = append(s.owners, b.Owner)
	return s.faulty.Acquire(ctx, b)
}

func TestClaim_ThatIsSpentIsFollowedByAnother(t *testing.T) {
	t.Parallel()
	s := &superseding{faulty: newFaulty()}
	s.set("acquire", fault{times: 1, err: store.ErrSuperseded})
	call := &scene{info: onlyAttempt}
	require.NoError(t, call.play(t, guarded(t, s, once.Policy{}), nothing))
	require.Equal(t, 1, call.runs)
	require.Len(t, s.owners, 2)
	require.NotEqual(t, s.owners[0], s.owners[1])
}

// A call from before the guard puts its own claim in doubt; what follows is the
// policy's.
func TestDistrust_IsFollowedByThePolicy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memory()
		o := options(once.Mark(once.Policy{InDoubt: once.Rerun}, "ChargeCard"))
		o.DistrustBefore = time.Now().Add(time.Hour)
		call := &scene{info: func(info *sdkactivity.Info) {
			info.Attempt, info.RetryPolicy = 2, &temporal.RetryPolicy{MaximumAttempts: 2}
		}}
		require.NoError(t, call.play(t, newGuard(t, s, o), nothing))
		require.Equal(t, 1, call.runs)
		require.Equal(t, store.Taken, only(t, s).Origin)
	})
}
