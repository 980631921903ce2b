package e2e

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
)

// till and jar have a method of one name; only that of a jar is marked.
type till struct{ *scene }

func (t *till) Charge(ctx context.Context, in charge) (receipt, error) { return t.charge(ctx, in) }

type jar struct{ *scene }

func (j jar) Charge(ctx context.Context, in charge) (receipt, error) { return j.charge(ctx, in) }

// What the SDK passes to a local activity, and by which name, is seen on a real
// worker only.
func TestMark_OfAFunctionThatIsCalledLocally(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		register func(worker.Registry, *scene)
		call     func(*scene) any
		charges  int
		refused  bool
	}{
		"registered": {
			func(r worker.Registry, s *scene) { r.RegisterActivity(&jar{s}) },
			func(s *scene) any { return jar{s}.Charge }, 1, false,
		},
		"registered with a prefix": {
			func(r worker.Registry, s *scene) {
				r.RegisterActivityWithOptions(&jar{s}, sdkactivity.RegisterOptions{Name: "jar_"})
			},
			func(s *scene) any { return jar{s}.Charge }, 0, true,
		},
		"registered with a prefix, by its name": {
			func(r worker.Registry, s *scene) {
				r.RegisterActivityWithOptions(&jar{s}, sdkactivity.RegisterOptions{Name: "jar_"})
			},
			func(*scene) any { return "jar_Charge" }, 1, false,
		},
		"another one has the name": {
			func(r worker.Registry, s *scene) {
				r.RegisterActivityWithOptions(&jar{s}, sdkactivity.RegisterOptions{Name: "jar_"})
				r.RegisterActivity(&till{s})
			},
			func(s *scene) any { return jar{s}.Charge }, 0, true,
		},
		"a function of another name": {
			func(r worker.Registry, s *scene) { r.RegisterActivity(&jar{s}) },
			func(s *scene) any { return s.charge }, 2, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, client.Options{})
			guard := s.guard(once.Mark(once.Policy{}, jar.Charge)...)
			queue := s.name + "-local"
			w := worker.New(s.dial(guard), queue, worker.Options{})
			tc.register(w, s)
			w.RegisterWorkflowWithOptions(func(ctx workflow.Context, in charge) error {
				ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{
					StartToCloseTimeout: soon, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1},
				})
				for range 2 {
					if err := workflow.ExecuteLocalActivity(ctx, tc.call(s), in).Get(ctx, nil); err != nil {
						return err
					}
				}
				return nil
			}, workflow.RegisterOptions{Name: "local"})
			require.NoError(t, w.Start())
			t.Cleanup(w.Stop)

			run, err := s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: queue, TaskQueue: queue}, "local", charge{Order: "order-1"})
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), soon)
			defer cancel()
			err = run.Get(ctx, nil)
			s.count(tc.charges, charged)
			require.Equal(t, tc.refused, once.Is(err, once.BadSetup), "%v", err)
			if !tc.refused {
				require.NoError(t, err)
			}
		})
	}
}
