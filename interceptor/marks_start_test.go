package interceptor_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/store"
)

// Two methods of one name have each its own policy.
func TestMark_TwoMethodsOfOneName(t *testing.T) {
	t.Parallel()
	s := memory()
	g := newGuard(t, s, options(
		once.Mark(once.Policy{OnFailure: once.Lock}, (*failing).Process),
		once.Mark(once.Policy{OnFailure: once.Unlock}, (*failingToo).Process)))
	env := environment(t, g)
	env.RegisterActivityWithOptions(&failing{}, sdkactivity.RegisterOptions{Name: "a_"})
	env.RegisterActivityWithOptions(&failingToo{}, sdkactivity.RegisterOptions{Name: "b_"})
	states := map[string]store.State{}
	for _, name := range []string{"a_Process", "b_Process"} {
		_, err := env.ExecuteActivity(name, order(7))
		require.ErrorContains(t, err, "declined")
	}
	for _, r := range records(t, s) {
		states[r.Info.Activity] = r.State
	}
	require.Equal(t, map[string]store.State{"a_Process": store.Failed, "b_Process": store.Tombstone}, states)
}

type failing struct{}

func (*failing) Process(context.Context, charge) error { return errors.New("declined") }

type failingToo struct{}

func (*failingToo) Process(context.Context, charge) error { return errors.New("declined") }

// What one worker of the guard serves need not be registered with the others.
func TestStart_FindsFunctionsOfAnotherWorker(t *testing.T) {
	t.Parallel()
	start := func(second any) error {
		g := newGuard(t, memory(), options(marking((*chargers).Process, &mailers{})))
		w, other := lazyWorker(t, []client.Plugin{g}, worker.Options{}), lazyWorker(t, []client.Plugin{g}, worker.Options{})
		w.RegisterActivity(&chargers{})
		other.RegisterActivity(second)
		return w.Start()
	}
	requireUnreachable(t, start(&mailers{}))
	err := start(&payments{})
	require.ErrorContains(t, err, "(*mailers).Process but registered with no worker of this guard")
	require.NotContains(t, err.Error(), "another function", "that one has a mark of its own")
}

// What was registered and then replaced does not count.
func TestStart_SeesWhatReplacesARegistration(t *testing.T) {
	t.Parallel()
	c := &chargers{}
	g := newGuard(t, memory(), options(marking(c.Process)))
	err := startError(t, g, func(r worker.Registry) {
		r.RegisterActivity(c)
		r.RegisterActivityWithOptions(wrapped(c.Process), sdkactivity.RegisterOptions{Name: "Process", DisableAlreadyRegisteredCheck: true})
	})
	require.ErrorContains(t, err, "If that wraps the marked one")
}

func TestStrict_TakesStructs(t *testing.T) {
	t.Parallel()
	o := options(marking((*mixed).Process), once.Exempt(&mixed{}))
	o.Strict = true
	register := func(r worker.Registry) {
		r.RegisterActivityWithOptions(&mixed{}, registered{}.options())
	}
	requireUnreachable(t, startError(t, newGuard(t, memory(), o), register))
	o.Activities = marking((*mixed).Process)
	err := startError(t, newGuard(t, memory(), o), register)
	require.ErrorContains(t, err, "activity Other is neither marked nor exempt")
	require.NotContains(t, err.Error(), "NotAnActivity", "the SDK does not register it")
}

// A plain interceptor sees the type's name only.
func TestMark_WithoutAPlugin(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		mark any
		want string
	}{
		"by name":          {"Process", guards},
		"by function":      {(*chargers).Process, atCall},
		"of another input": {(*mixed).Other, ignores},
		"of another name":  {(*payments).ChargeCard, ignores},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, c := memory(), &chargers{}
			env := environment(t)
			env.SetWorkerOptions(worker.Options{Interceptors: []sdkinterceptor.WorkerInterceptor{newGuard(t, s, options(marking(tc.mark)))}})
			env.RegisterActivity(c)
			_, err := env.ExecuteActivity("Process", order(7))
			if tc.want == atCall {
				require.True(t, once.Is(err, once.BadSetup))
				require.ErrorContains(t, err, "without a plugin the guard sees no registrations")
				require.Zero(t, c.calls.Load())
				return
			}
			require.NoError(t, err)
			require.Len(t, records(t, s), map[string]int{guards: 1, ignores: 0}[tc.want])
		})
	}
	t.Run("beside the plugin", func(t *testing.T) {
		t.Parallel()
		s, c := memory(), &chargers{}
		g := newGuard(t, s, options(marking(c.Process)))
		env := environment(t)
		env.SetWorkerOptions(worker.Options{Interceptors: []sdkinterceptor.WorkerInterceptor{g}, Plugins: []worker.Plugin{g}})
		env.RegisterActivity(c)
		for range 2 {
			_, err := env.ExecuteActivity("Process", order(7))
			require.NoError(t, err)
		}
		require.EqualValues(t, 1, c.calls.Load())
	})
}

// A method that has a mark of its own, or is exempt, is not missed for its struct's.
func TestStart_AsksForNoMethodThatAnotherMarkTakesFromItsStruct(t *testing.T) {
	t.Parallel()
	start := func(more ...once.Marked) error {
		g := newGuard(t, memory(), options(once.Mark(once.Policy{}, &payments{}), more))
		return startError(t, g, func(r worker.Registry) { r.RegisterActivity((&payments{}).ChargeCard) })
	}
	require.ErrorContains(t, start(), `activity "Refund" is marked`)
	requireUnreachable(t, start(once.Exempt((*payments).Refund)...))
	requireUnreachable(t, start(once.Exempt("Refund")...))
	require.ErrorContains(t, start(once.Exempt("ChargeCard")...), `activity "Refund" is marked`)
	require.ErrorContains(t, start(once.Mark(once.Policy{}, "Refund")...), `activity "Refund" is marked`, "it is missed itself")
}
