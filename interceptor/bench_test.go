package interceptor_test

import (
	"context"
	"testing"

	sdkactivity "go.temporal.io/sdk/activity"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
)

// BenchmarkActivity runs one activity in the SDK's test environment. The cost
// of the guard is the difference to base.
func BenchmarkActivity(b *testing.B) {
	body := func(context.Context, charge) (receipt, error) { return receipt{ID: "r"}, nil }
	run := func(b *testing.B, mark string, next func(i int) charge) {
		var s testsuite.WorkflowTestSuite
		s.SetLogger(quiet)
		env := s.NewTestActivityEnvironment()
		o := worker.Options{}
		if mark != "" {
			g, err := interceptor.New(memory(), options(once.Mark(once.Policy{}, mark)))
			if err != nil {
				b.Fatal(err)
			}
			o.Interceptors = []sdkinterceptor.WorkerInterceptor{g}
		}
		env.SetWorkerOptions(o)
		env.RegisterActivityWithOptions(body, sdkactivity.RegisterOptions{Name: "ChargeCard"})
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, err := env.ExecuteActivity("ChargeCard", next(i)); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("base", func(b *testing.B) { run(b, "", order) })
	b.Run("unmarked", func(b *testing.B) { run(b, "Other", order) })
	b.Run("first", func(b *testing.B) { run(b, "ChargeCard", order) })
	b.Run("duplicate", func(b *testing.B) { run(b, "ChargeCard", func(int) charge { return order(7) }) })
}
