package interceptor_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/store"
)

// refused says how a call comes to be refused for a reason.
type refused struct {
	reason    once.Reason
	retryable bool
	maybe     bool // it may have happened
	call      func(t *testing.T) error
}

// Calls of order 7 under the default options.
func underDefaults(t *testing.T, s store.Store, p once.Policy) *interceptor.Guard {
	t.Helper()
	return newGuard(t, s, options(once.Mark(p, "ChargeCard")))
}

func charged(t *testing.T, g *interceptor.Guard) error {
	t.Helper()
	_, err := execute(t, g, (&payments{}).ChargeCard, order(7))
	return err
}

// later makes the next call another one, and lets d pass on every clock.
func later(d time.Duration) { <-time.After(d) }

var refusals = map[string]refused{
	"in flight: running": {once.InFlight, true, true, func(t *testing.T) error {
		g := underDefaults(t, memory(), once.Policy{})
		finish := running(t, g, order(7))
		err := charged(t, g)
		_, _ = finish()
		return err
	}},
	"in flight: pending": {once.InFlight, true, true, func(t *testing.T) error {
		g := underDefaults(t, memory(), once.Policy{})
		pending(t, g, order(7))
		later(time.Second)
		return charged(t, g)
	}},
	"in flight: unreported": {once.InFlight, true, true, func(t *testing.T) error {
		g := underDefaults(t, memory(), once.Policy{})
		pending(t, g, order(7))
		later(11 * time.Minute)
		return charged(t, g)
	}},
	"in flight: not begun": {once.InFlight, true, false, func(t *testing.T) error {
		env := environment(t, underDefaults(t, memory(), once.Policy{}))
		stop := make(chan struct{})
		close(stop)
		env.SetWorkerStopChannel(stop)
		env.RegisterActivityWithOptions((&payments{}).ChargeCard, sdkactivity.RegisterOptions{Name: "ChargeCard"})
		_, err := env.ExecuteActivity("ChargeCard", order(7))
		return err
	}},
	"in flight: superseded": {once.InFlight, true, true, func(t *testing.T) (err error) {
		s := memory()
		g := underDefaults(t, s, once.Policy{})
		_, err = execute(t, g, func(context.Context, charge) (receipt, error) {
			s.Clear()
			finish := running(t, g, order(7))
			t.Cleanup(func() { _, _ = finish() })
			return receipt{}, errors.New("declined")
		}, order(7))
		return err
	}},
	"duplicate": {once.Duplicate, false, true, func(t *testing.T) error {
		g := underDefaults(t, memory(), once.Policy{OnDuplicate: once.Reject})
		require.NoError(t, charged(t, g))
		later(time.Second)
		return charged(t, g)
	}},
	"mismatch": {once.Mismatch, false, true, func(t *testing.T) error {
		g := underDefaults(t, memory(), once.Policy{Key: keys.From(byOrder), Scope: keys.PerNamespace})
		require.NoError(t, charged(t, g))
		later(time.Second)
		_, err := execute(t, g, (&payments{}).ChargeCard, charge{Order: "7", Cents: 101})
		return err
	}},
	"in doubt: at first": {once.InDoubt, true, true, func(t *testing.T) error {
		_, err := execute(t, underDefaults(t, memory(), once.Policy{}), (&payments{fail: io.ErrUnexpectedEOF}).ChargeCard, order(7))
		return err
	}},
	"in doubt: Hold": {once.InDoubt, true, true, inDoubtUnder(once.Hold)},
	"in doubt: Fail": {once.InDoubt, false, true, inDoubtUnder(once.Fail)},
	"in doubt: unreported": {once.InDoubt, true, true, func(t *testing.T) error {
		g := underDefaults(t, memory(), once.Policy{})
		scheduled := time.Now()
		same := &scene{info: func(info *sdkactivity.Info) { info.ScheduledTime, info.ScheduleToCloseTimeout = scheduled, 0 }}
		require.Error(t, same.play(t, g, nil))
		later(11 * time.Minute)
		return same.play(t, g, nothing)
	}},
	"in doubt: Reconcile": {once.InDoubt, true, true, inDoubtUnder(once.Reconcile(unreachable))},
	"in doubt: not asked": {once.InDoubt, false, true, func(t *testing.T) error {
		var suite testsuite.WorkflowTestSuite
		suite.SetLogger(quiet)
		env := suite.NewTestWorkflowEnvironment()
		env.SetWorkerOptions(worker.Options{Plugins: []worker.Plugin{underDefaults(t, memory(), once.Policy{InDoubt: once.Reconcile(findCharge)})}})
		env.RegisterActivityWithOptions((&payments{fail: io.ErrUnexpectedEOF}).ChargeCard, sdkactivity.RegisterOptions{Name: "ChargeCard"})
		env.ExecuteWorkflow(func(ctx workflow.Context) error {
			ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{
				StartToCloseTimeout: time.Minute, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1},
			})
			return workflow.ExecuteLocalActivity(ctx, "ChargeCard", order(7)).Get(ctx, nil)
		})
		return env.GetWorkflowError()
	}},
	"outcome not kept": {once.OutcomeNotKept, false, true, func(t *testing.T) error {
		g := underDefaults(t, memory(), once.Policy{})
		large := func(context.Context, charge) (string, error) { return strings.Repeat("x", 3<<20), nil }
		_, err := execute(t, g, large, order(7))
		require.NoError(t, err)
		_, err = execute(t, g, large, order(7))
		return err
	}},
	"store down": {once.StoreDown, true, true, func(t *testing.T) error {
		s := newFaulty()
		s.set("acquire", fault{times: 1})
		return charged(t, underDefaults(t, s, once.Policy{}))
	}},
	"bad record": {once.BadRecord, true, true, func(t *testing.T) error {
		s := newFaulty()
		s.set("acquire", fault{times: 1, err: store.ErrVersion})
		return charged(t, underDefaults(t, s, once.Policy{}))
	}},
	"bad key": {once.BadKey, false, true, func(t *testing.T) error {
		return charged(t, underDefaults(t, memory(), once.Policy{Scope: keys.PerNamespace, Key: keys.FromCall(func(keys.Call) (string, error) {
			return "", errors.New("the order has no ID")
		})}))
	}},
	"bad set-up": {once.BadSetup, true, true, func(t *testing.T) error {
		var s testsuite.WorkflowTestSuite
		s.SetLogger(quiet)
		env := s.NewTestActivityEnvironment()
		g := newGuard(t, memory(), interceptor.Options{Activities: once.Mark(once.Policy{}, "ChargeCard")})
		env.SetWorkerOptions(worker.Options{Interceptors: []sdkinterceptor.WorkerInterceptor{g}})
		env.RegisterActivity((&payments{}).ChargeCard)
		_, err := env.ExecuteActivity("ChargeCard", order(7))
		return err
	}},
}

func unreachable(context.Context, charge) (receipt, error) {
	return receipt{}, errors.New("the provider does not answer")
}

// inDoubtUnder is a call after the settle delay.
func inDoubtUnder(p once.DoubtPolicy) func(t *testing.T) error {
	return func(t *testing.T) error {
		g := underDefaults(t, memory(), once.Policy{InDoubt: p})
		_, err := execute(t, g, (&payments{fail: io.ErrUnexpectedEOF}).ChargeCard, order(7))
		require.Error(t, err)
		later(31 * time.Second)
		return charged(t, g)
	}
}

// anonymous replaces what a test environment calls its workflow and its time.
var anonymous = strings.NewReplacer(
	"default-test-workflow-id", "order-7",
	"default-test-run-id", "019ab0c2-7d5e-7b43-9f0e-3f6f6d1c2a55",
	"2000-01-01T00:00:00Z", "2026-01-02T03:04:05Z",
	"2000-01-01T00:00:30Z", "2026-01-02T03:04:35Z",
	"2000-01-01T00:10:00Z", "2026-01-02T03:14:05Z",
)

// longLine is as much of a line as a reader likes.
var longLine = regexp.MustCompile(`(.{80,100}) `)

func TestDocs_QuoteTheErrors(t *testing.T) {
	t.Parallel()
	messages := map[string]string{}
	for name, r := range refusals {
		synctest.Test(t, func(t *testing.T) {
			err := r.call(t)
			app := (*temporal.ApplicationError)(nil)
			require.ErrorAs(t, err, &app, name)
			require.Equal(t, string(r.reason), app.Type(), name)
			require.Equal(t, r.retryable, !app.NonRetryable(), name)
			require.Equal(t, r.maybe, once.MayHaveHappened(err), name)
			verdict, _, _ := strings.Cut(name, ":")
			require.Regexp(t, "^"+verdict+": ", app.Message(), "the verdict comes first")
			require.Contains(t, app.Message(), "ChargeCard", name)
			require.NotContains(t, app.Error(), "default-test-namespace", name)
			messages[name] = longLine.ReplaceAllString(anonymous.Replace(app.Error()), "$1\n  ")
		})
	}
	requireQuoted(t, "errors.md", messages)
}

// Each reason has its line in the first table of the page, which says whether
// Temporal comes back and what MayHaveHappened answers.
func TestDocs_TableOfErrorsIsTrue(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "docs", "errors.md"))
	require.NoError(t, err)
	answers := map[bool]string{true: "yes", false: "no"}
	retried, maybe := map[once.Reason]string{}, map[once.Reason]string{}
	note := func(column map[once.Reason]string, reason once.Reason, answer string) {
		if before := column[reason]; before != "" && before != answer {
			answer = "either"
		}
		column[reason] = answer
	}
	for _, r := range refusals {
		note(retried, r.reason, answers[r.retryable])
		note(maybe, r.reason, answers[r.maybe])
	}
	line := regexp.MustCompile(`(?m)^\| ` + "`atmostonce" + `\.(\w+)` + "`" + ` \| [^|]+ \| (\w+)[^|]* \| (\w+)[^|]* \|`)
	found := line.FindAllStringSubmatch(string(page), -1)
	require.Len(t, found, len(retried))
	for _, m := range found {
		reason := once.Reason("atmostonce." + m[1])
		require.Equal(t, retried[reason], m[2], "%s: Temporal tries again", reason)
		require.Equal(t, maybe[reason], m[3], "%s: MayHaveHappened", reason)
	}
}
