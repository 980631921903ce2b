package interceptor_test

import (
	"context"
	"errors"
	"log"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/telemetry"
)

// enforceOnly returns a mode that is asked at each call, so it may as well read a
// configuration that changes.
func enforceOnly(activities ...string) func(activity string) once.Mode {
	return func(activity string) once.Mode {
		if slices.Contains(activities, activity) {
			return once.Enforce
		}
		return once.Observe
	}
}

// A guard on a running system first only observes.
func ExampleOptions_observe() {
	s, err := store.NewFile("/var/lib/atmostonce", store.FileOptions{})
	if err != nil {
		log.Fatalln(err)
	}
	guard, err := interceptor.New(s, interceptor.Options{
		Activities: GuardedPayouts(&Payouts{}),
		Mode:       enforceOnly(), // nothing yet
		KeySecret:  []byte(os.Getenv("ATMOSTONCE_KEY_SECRET")),
		Observers:  []observe.Observer{telemetry.NewOTel(telemetry.Options{})},
	})
	if err != nil {
		log.Fatalln(err)
	}
	c, err := client.Dial(client.Options{Plugins: []client.Plugin{guard}})
	if err != nil {
		log.Fatalln(err)
	}
	c.Close()
}

// A worker that runs only workflows, and has no guard.
func ExampleWorkflows() {
	c, err := client.Dial(client.Options{})
	if err != nil {
		log.Fatalln(err)
	}
	w := worker.New(c, "orders", worker.Options{
		Interceptors: []sdkinterceptor.WorkerInterceptor{interceptor.Workflows()},
	})
	if err := w.Run(worker.InterruptCh()); err != nil {
		log.Fatalln(err)
	}
}

// Then it enforces, activity by activity.
func ExampleOptions_enforce() {
	options := interceptor.Options{
		Activities: append(GuardedPayouts(&Payouts{}),
			once.Exempt("FindPayout")...), // it only reads
		Strict:         true,
		Mode:           enforceOnly("PayOut"),
		DistrustBefore: time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC), // when the guard was first deployed
		KeySecret:      []byte(os.Getenv("ATMOSTONCE_KEY_SECRET")),
		Observers:      []observe.Observer{telemetry.NewOTel(telemetry.Options{})},
	}
	if _, err := interceptor.New(store.NewMemory(store.MemoryOptions{}), options); err != nil {
		log.Fatalln(err)
	}
}

// What ran while the guard was off left no record.
func TestDistrustBefore_CoversATimeOfOff(t *testing.T) {
	t.Parallel()
	for distrust, runs := range map[bool]int{true: 1, false: 2} {
		o := options(once.Mark(once.Policy{InDoubt: once.Fail}, "ChargeCard"))
		if distrust {
			o.DistrustBefore = time.Now().Add(time.Hour)
		}
		mode := once.Off
		o.Mode = func(string) once.Mode { return mode }
		env, ran := guardedWorkflows(t, newGuard(t, memory(), o)), 0
		env.RegisterActivityWithOptions(func(context.Context, charge) (receipt, error) {
			ran++
			if mode == once.Enforce {
				return receipt{}, nil
			}
			mode = once.Enforce
			return receipt{}, errors.New("reported as an error, after the effect")
		}, named("ChargeCard"))
		env.ExecuteWorkflow(chargesTwice(false))
		require.Equal(t, distrust, once.Is(env.GetWorkflowError(), once.InDoubt), "%v", env.GetWorkflowError())
		require.Equal(t, runs, ran)
	}
}

func TestObserve_TellsTheReason(t *testing.T) {
	t.Parallel()
	for reason, p := range map[once.Reason]once.Policy{
		once.Mismatch:  {Key: keys.From(byOrder), Scope: keys.PerNamespace},
		once.Duplicate: {OnDuplicate: once.Reject},
	} {
		s, ran := memory(), &payments{}
		g, events := inMode(t, s, once.Observe, p)
		second := order(7)
		if reason == once.Mismatch {
			second.Cents++
		}
		for _, in := range []charge{order(7), second} {
			_, err := execute(t, g, ran.ChargeCard, in)
			require.NoError(t, err)
		}
		require.Equal(t, reason, receive(t, events.ended).Reason)
		require.Len(t, ran.charges, 2)
	}
}
