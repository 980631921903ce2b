package interceptor_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/storetest"
)

type Payout struct {
	Order string
	Cents int
}

// Bank is the callee.
type Bank interface {
	Transfer(ctx context.Context, p Payout) (id string, err error)
	Find(ctx context.Context, order string) (id string, found bool, err error)
}

type Payouts struct{ bank Bank }

func (p *Payouts) PayOut(ctx context.Context, in Payout) (string, error) {
	return p.bank.Transfer(ctx, in)
}

func (p *Payouts) FindPayout(ctx context.Context, in Payout) (string, error) {
	id, found, err := p.bank.Find(ctx, in.Order)
	if err == nil && !found {
		err = once.ErrNotDone
	}
	return id, err
}

func GuardedPayouts(p *Payouts) []once.Marked {
	return once.Mark(once.Policy{
		Key:     keys.From(func(in Payout) string { return in.Order }),
		Scope:   keys.PerNamespace,
		InDoubt: once.Reconcile(p.FindPayout),
	}, p.PayOut)
}

// PayOutOrder pays out, and takes it back if it may have been paid.
func PayOutOrder(ctx workflow.Context, in Payout) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
	err := workflow.ExecuteActivity(ctx, "PayOut", in).Get(ctx, nil)
	if err == nil {
		return nil
	}
	if why, ok := once.Why(err); ok { // the guard's own error
		workflow.GetLogger(ctx).Warn("not paid out", "reason", why.Reason, "key", why.Key, "holder", why.WorkflowID)
	}
	if once.MayHaveHappened(err) {
		if failed := workflow.ExecuteActivity(ctx, "TakeBack", in).Get(ctx, nil); failed != nil {
			return failed
		}
	}
	return err
}

// fakeBank counts the transfers, and breaks down before or after one.
type fakeBank struct {
	transfers     []Payout
	before, after func() error
}

func (b *fakeBank) Transfer(_ context.Context, p Payout) (string, error) {
	if b.before != nil {
		if err := b.before(); err != nil {
			return "", err
		}
	}
	b.transfers = append(b.transfers, p)
	if b.after != nil {
		if err := b.after(); err != nil {
			return "", err
		}
	}
	return "transfer of " + p.Order, nil
}

func (b *fakeBank) Find(_ context.Context, order string) (string, bool, error) {
	for _, p := range b.transfers {
		if p.Order == order {
			return "transfer of " + order, true, nil
		}
	}
	return "", false, nil
}

// payoutGuard has a store of its own. A test has no client from which the guard
// could learn its data converter.
func payoutGuard(p *Payouts) (*interceptor.Guard, error) {
	return interceptor.New(store.NewMemory(store.MemoryOptions{}), interceptor.Options{
		Activities:    GuardedPayouts(p),
		DataConverter: converter.GetDefaultDataConverter(),
	})
}

// An activity is guarded in the SDK's test environment as on a worker.
func ExampleGuard_testEnvironment() {
	bank := &fakeBank{}
	guard, err := payoutGuard(&Payouts{bank})
	if err != nil {
		log.Fatalln(err)
	}
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(quiet)
	env := suite.NewTestActivityEnvironment()
	env.SetWorkerOptions(worker.Options{Plugins: []worker.Plugin{guard}})
	env.RegisterActivity(&Payouts{bank})
	for range 2 {
		if _, err := env.ExecuteActivity("PayOut", Payout{Order: "7", Cents: 1200}); err != nil {
			log.Fatalln(err)
		}
	}
	fmt.Fprintln(os.Stdout, "transfers:", len(bank.transfers))
	// Output: transfers: 1
}

func payoutEnvironment(t *testing.T, bank Bank) *testsuite.TestActivityEnvironment {
	t.Helper()
	guard, err := payoutGuard(&Payouts{bank})
	require.NoError(t, err)
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(quiet) // a crash that is meant logs its stack
	env := suite.NewTestActivityEnvironment()
	env.SetWorkerOptions(worker.Options{Plugins: []worker.Plugin{guard}})
	env.RegisterActivity(&Payouts{bank})
	return env
}

func TestPayOut_HappensOnce(t *testing.T) {
	t.Parallel()
	bank := &fakeBank{}
	env := payoutEnvironment(t, bank)
	for range 2 { // the second call is answered from the store
		value, err := env.ExecuteActivity("PayOut", Payout{Order: "7", Cents: 1200})
		require.NoError(t, err)
		var id string
		require.NoError(t, value.Get(&id))
		require.Equal(t, "transfer of 7", id)
	}
	require.Len(t, bank.transfers, 1)
}

func TestPayOut_SurvivesACrash(t *testing.T) {
	t.Parallel()
	crash := func() error { panic("the worker dies here") }
	noAnswer := func() error { return io.ErrUnexpectedEOF }
	for name, bank := range map[string]*fakeBank{
		"before the transfer":            {before: crash},
		"after the transfer":             {after: crash},
		"the connection breaks after it": {after: noAnswer},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { // the settle delay takes no time in here
				env, order := payoutEnvironment(t, bank), Payout{Order: "7", Cents: 1200}
				_, err := env.ExecuteActivity("PayOut", order)
				require.True(t, once.MayHaveHappened(err))

				bank.before, bank.after = nil, nil
				_, err = env.ExecuteActivity("PayOut", order)
				require.True(t, once.Is(err, once.InDoubt), "nothing is decided before the settle delay is over")

				<-time.After(time.Minute)
				_, err = env.ExecuteActivity("PayOut", order)
				require.NoError(t, err)
				require.Len(t, bank.transfers, 1)
			})
		})
	}
}

func TestFindPayout_TellsNotDoneFromNoAnswer(t *testing.T) {
	t.Parallel()
	ctx := once.NewContext(t.Context(), once.Claim{Key: "test"}) // for once.Key
	p := &Payouts{&fakeBank{}}
	_, err := p.FindPayout(ctx, Payout{Order: "7"})
	require.ErrorIs(t, err, once.ErrNotDone)

	p = &Payouts{closedBank{}}
	_, err = p.FindPayout(ctx, Payout{Order: "7"})
	require.Error(t, err)
	require.NotErrorIs(t, err, once.ErrNotDone, "or the guard would pay out again")
}

type closedBank struct{ Bank }

func (closedBank) Find(context.Context, string) (string, bool, error) {
	return "", false, errors.New("503")
}

func TestPayOutOrder_TakesBackWhatMayHaveHappened(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		failure error
		back    int
	}{
		"in doubt": {temporal.NewNonRetryableApplicationError("", string(once.InDoubt), nil), 1},
		"declined": {temporal.NewNonRetryableApplicationError("", "Declined", nil), 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var suite testsuite.WorkflowTestSuite
			suite.SetLogger(quiet)
			env := suite.NewTestWorkflowEnvironment() // without a guard: its activities are mocked
			env.RegisterActivity(&Payouts{})
			env.RegisterActivityWithOptions((&Payouts{}).FindPayout, named("TakeBack"))
			env.OnActivity("PayOut", mock.Anything, mock.Anything).Return("", tc.failure)
			env.OnActivity("TakeBack", mock.Anything, mock.Anything).Return("", nil)
			env.ExecuteWorkflow(PayOutOrder, Payout{Order: "7", Cents: 1200})
			require.Error(t, env.GetWorkflowError())
			env.AssertNumberOfCalls(t, "TakeBack", tc.back)
		})
	}
}

func TestPayOutOrder_TwiceIsOnePayout(t *testing.T) {
	t.Parallel()
	bank := &fakeBank{}
	guard, err := payoutGuard(&Payouts{bank})
	require.NoError(t, err)
	for _, id := range []string{"first", "second"} {
		var suite testsuite.WorkflowTestSuite
		suite.SetLogger(quiet)
		env := suite.NewTestWorkflowEnvironment()
		env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: id, TaskQueue: "payouts"})
		env.SetWorkerOptions(worker.Options{Plugins: []worker.Plugin{guard}})
		env.RegisterActivity(&Payouts{bank})
		env.ExecuteWorkflow(PayOutOrder, Payout{Order: "7", Cents: 1200})
		require.NoError(t, env.GetWorkflowError())
	}
	require.Len(t, bank.transfers, 1)
}

func TestMyStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(*testing.T) storetest.Harness {
		mine := store.NewMemory(store.MemoryOptions{})
		return storetest.Harness{
			Open:   func(testing.TB) store.Store { return mine },
			Around: synctest.Test, // for a store whose clock is Go's
		}
	})
}
