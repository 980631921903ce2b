package interceptor_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/observe"
)

// localCase is a local activity, passed as a function or by name.
type localCase struct {
	marks      []once.Marked
	registered []registered
	call       any
	arg        any
	want       string
	activity   string
}

func TestMark_LocalActivities(t *testing.T) {
	t.Parallel()
	c, m, v := &chargers{}, &mailers{}, values{}
	for name, tc := range map[string]localCase{
		"registered, a method":           {marking(c.Process), []registered{{c, ""}}, c.Process, order(7), guards, "Process"},
		"registered, by its name":        {marking(c.Process), []registered{{c, ""}}, "Process", order(7), guards, "Process"},
		"registered under another name":  {marking(c.Process), []registered{{c.Process, "Charge"}}, c.Process, order(7), guards, "Charge"},
		"registered, a function":         {marking(plainFunction), []registered{{plainFunction, ""}}, plainFunction, order(7), guards, "plainFunction"},
		"marked by the name of another":  {marking("Process"), []registered{{c, ""}}, v.Process, order(7), guards, "Process"},
		"marked by name, not registered": {marking("Process", "Charge"), []registered{{c.Process, "Charge"}, {c, ""}}, v.Process, order(7), guards, "Charge"},

		// What runs is c.Process, since the SDK looks up methods of pointers by name.
		"another method of a pointer": {marking(c.Process), []registered{{c, ""}}, m.Process, order(7), guards, "Process"},
		// What runs is what is passed; its input shows that it is not what is marked.
		"a function of other input": {marking(c.Process), []registered{{c, ""}}, otherProcess.Process, "7", ignores, ""},

		"not registered":                        {marking(c.Process), []registered{{c, "a_"}}, c.Process, order(7), atCall, "Process"},
		"not registered, a namesake":            {marking(c.Process), []registered{{c, "a_"}}, v.Process, order(7), atCall, "Process"},
		"not registered, of other input":        {marking(c.Process), []registered{{c, "a_"}}, otherProcess.Process, "7", ignores, ""},
		"not registered, of another name":       {marking(c.Process), []registered{{c, "a_"}}, plainFunction, order(7), ignores, ""},
		"not registered, exempt":                {append(marking(c.Process), once.Exempt("Process")...), []registered{{c, "a_"}}, v.Process, order(7), ignores, ""},
		"under the name of another":             {marking(values.Process), []registered{{&v, "a_"}, {m, ""}}, v.Process, order(7), atCall, "Process"},
		"under the alias of another":            {marking(values.Process), []registered{{&v, ""}, {m.Process, "Mail"}}, v.Process, order(7), atCall, "Mail"},
		"another, by its name":                  {marking(c.Process), []registered{{c, "a_"}, {m, ""}}, "Process", order(7), ignores, ""},
		"the name of another is exempt":         {append(marking(values.Process), once.Exempt("Process")...), []registered{{&v, "a_"}, {m, ""}}, "Process", order(7), ignores, ""},
		"a function of another mark":            {append(marking(values.Process), once.Mark(once.Policy{OnFailure: once.Lock}, m.Process)...), []registered{{&v, "a_"}, {m, ""}}, v.Process, order(7), atCall, "Process"},
		"a struct that may be called by itself": {marking(&v), []registered{{&v, "a_"}, {m, ""}}, v.Process, order(7), atCall, "Process"},
	} {
		for _, mode := range []once.Mode{once.Enforce, once.Observe, once.Off} {
			t.Run(name+", "+mode.String(), func(t *testing.T) {
				t.Parallel()
				tc.run(t, mode)
			})
		}
	}
}

// otherProcess has a method of the same name, with other input.
var otherProcess textProcess

type textProcess struct{}

func (textProcess) Process(_ context.Context, in string) (receipt, error) {
	return receipt{ID: in}, nil
}

func (tc localCase) run(t *testing.T, mode once.Mode) {
	t.Helper()
	s, events := memory(), newWatch(observe.KindNotice)
	o := options(tc.marks)
	o.Mode = func(string) once.Mode { return mode }
	o.Observers = []observe.Observer{events}
	env := guardedWorkflows(t, newGuard(t, s, o))
	for _, a := range tc.registered {
		env.RegisterActivityWithOptions(a.fn, a.options())
	}
	env.ExecuteWorkflow(func(ctx workflow.Context) error {
		ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{ScheduleToCloseTimeout: 5 * time.Second})
		return workflow.ExecuteLocalActivity(ctx, tc.call, tc.arg).Get(ctx, nil)
	})
	err := env.GetWorkflowError()
	if tc.want == atCall && mode == once.Enforce {
		require.True(t, once.Is(err, once.BadSetup), "%v", err)
		require.ErrorContains(t, err, "bad set-up: "+tc.activity+" was not run")
		require.ErrorContains(t, err, "or mark or exempt the name")
		require.Empty(t, records(t, s))
		return
	}
	require.NoError(t, err)
	if tc.want == guards && mode != once.Off {
		require.Equal(t, tc.activity, only(t, s).Info.Activity)
		return
	}
	require.Empty(t, records(t, s))
	if tc.want == atCall && mode == once.Observe {
		require.Equal(t, once.BadSetup, receive(t, events.ended).Reason)
	}
}
