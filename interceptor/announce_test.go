package interceptor_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/store"
)

// lines keeps what is logged.
type lines struct{ all [][]any }

func (l *lines) Debug(string, ...any) {}
func (l *lines) Info(msg string, fields ...any) {
	l.all = append(l.all, append([]any{"INFO", msg}, fields...))
}
func (l *lines) Warn(msg string, fields ...any) {
	l.all = append(l.all, append([]any{"WARN", msg}, fields...))
}
func (l *lines) Error(string, ...any) {}
func (l *lines) ours() (all [][]any) {
	for _, line := range l.all {
		if strings.HasPrefix(line[1].(string), "atmostonce") {
			all = append(all, line)
		}
	}
	return all
}

func TestStart_SaysWhatIsGuarded(t *testing.T) {
	t.Parallel()
	o := options(once.Mark(once.Policy{OnDuplicate: once.Wait}, (*chargers).Process), once.Mark(once.Policy{InDoubt: once.Fail}, "Served"))
	o.Mode = func(name string) once.Mode {
		if name == "Served" {
			return once.Observe
		}
		return once.Enforce
	}
	g := newGuard(t, checkedStore{memory(), store.ErrUnverified}, o)
	logger := &lines{}
	c, err := client.NewLazyClient(client.Options{HostPort: "127.0.0.1:1", Logger: logger, Plugins: []client.Plugin{g}})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	w := worker.New(c, "queue", worker.Options{})
	w.RegisterActivityWithOptions(&chargers{}, sdkactivity.RegisterOptions{Name: "a_"})
	w.RegisterActivityWithOptions(&mailers{}, sdkactivity.RegisterOptions{Name: "b_"})
	w.RegisterDynamicActivity(func(context.Context, converter.EncodedValues) error { return nil }, sdkactivity.DynamicRegisterOptions{})
	requireUnreachable(t, w.Start())
	require.Equal(t, [][]any{
		{"WARN", "atmostonce: look at the store", "Error", store.ErrUnverified},
		{
			"INFO", "atmostonce: worker starts", "TaskQueue", "queue", "Store", "memory",
			"Guarded", "a_Process (Enforce, PerWorkflow, OnDuplicate Wait, OnFailure Unlock, InDoubt Hold), Served (Observe, PerWorkflow, OnDuplicate Return, OnFailure Unlock, InDoubt Fail)",
			"NotGuarded", "b_Process, what the dynamic activity serves besides",
		},
	}, logger.ours())
}

func TestStart_SaysItBriefly(t *testing.T) {
	t.Parallel()
	g := newGuard(t, memory(), options(marking(once.All)))
	logger := &lines{}
	c, err := client.NewLazyClient(client.Options{HostPort: "127.0.0.1:1", Logger: logger, Plugins: []client.Plugin{g}})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	w := worker.New(c, "queue", worker.Options{})
	for n := range 100 {
		w.RegisterActivityWithOptions((&chargers{}).Process, sdkactivity.RegisterOptions{Name: strings.Repeat("x", n+1)})
	}
	requireUnreachable(t, w.Start())
	line := logger.ours()[0]
	guarded := line[slices.Index(line, any("Guarded"))+1].(string)
	require.Less(t, len(guarded), 2100)
	require.Regexp(t, ` and \d+ more$`, guarded)
	require.Contains(t, guarded, "x (Observe, PerWorkflow")
}

// A guard that is a plugin of the worker does not know the client's logger before
// an activity has it.
func TestStart_SaysItAtTheFirstCallOfAWorkerPlugin(t *testing.T) {
	t.Parallel()
	logger := &lines{}
	var s testsuite.WorkflowTestSuite
	s.SetLogger(logger)
	env := s.NewTestActivityEnvironment()
	env.SetWorkerOptions(worker.Options{Plugins: []worker.Plugin{newGuard(t, memory(), options(once.Mark(once.Policy{}, "ChargeCard")))}})
	env.RegisterActivityWithOptions((&payments{}).ChargeCard, sdkactivity.RegisterOptions{Name: "ChargeCard"})
	require.Empty(t, logger.ours())
	for range 2 {
		_, err := env.ExecuteActivity("ChargeCard", order(7))
		require.NoError(t, err)
	}
	said := 0
	for _, line := range logger.ours() {
		if line[1] == "atmostonce: worker starts" {
			said++
		}
	}
	require.Equal(t, 1, said)
}
