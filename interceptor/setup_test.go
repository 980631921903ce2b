package interceptor_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/store"
)

func byOrder(in charge) string { return in.Order }

func TestNew_ReportsEverythingAtOnce(t *testing.T) {
	t.Parallel()
	p := &payments{}
	var nowhere *store.Memory
	closure := func(context.Context, charge) error { return nil }
	_, err := interceptor.New(nowhere, interceptor.Options{
		Lease: time.Minute, SettleDelay: 20 * time.Second,
		Activities: append(append(append(append(append(append(append(append(append(
			once.Mark(once.Policy{TTL: -time.Second}, "Negative"),
			once.Mark(once.Policy{Key: keys.From(byOrder)}, "Unscoped")...),
			once.Mark(once.Policy{Scope: keys.PerCall, Key: keys.From(byOrder)}, "Counted")...),
			once.Mark(once.Policy{Scope: keys.PerNamespace}, "Keyless")...),
			once.Mark(once.Policy{Key: keys.From(func(in string) string { return in }), Scope: keys.PerWorkflow}, p.ChargeCard)...),
			once.Mark(once.Policy{InDoubt: once.Reconcile(func(context.Context, string) (receipt, error) { return receipt{}, nil })}, p.Refund)...),
			once.Mark(once.Policy{}, closure)...),
			once.Mark(once.Policy{}, 42, "")...),
			once.Mark(once.Policy{}, "Twice", "Twice")...),
			once.Mark(once.Policy{InDoubt: once.HoldFor(-1), OnFailure: once.Classify(nil)}, "Odd")...),
	})
	for _, complaint := range []string{
		"the store is nil",
		"SettleDelay is 20s; it must be greater than 20s",
		"activity Negative: TTL is -1s; the least is 1ms",
		"activity Unscoped: Key is set, so Scope must be too",
		"activity Counted: Scope PerCall counts calls of equal input and takes no Key",
		"activity Keyless: Scope PerNamespace needs a Key",
		"activity ChargeCard: Key: keys: the key function wants string, but the argument is of type interceptor_test.charge",
		"activity Refund: Reconcile: the function wants string, but the argument is of type interceptor_test.charge",
		"a closure or generic function has no name of its own; register it with a name and mark that name",
		"int is neither a function nor a name",
		"an empty activity name",
		"activity Twice: marked twice",
		"activity Odd: Classify needs a function",
		"HoldFor(-1ns): the time must be positive",
	} {
		require.ErrorContains(t, err, complaint)
	}
}

func TestNew_RefusesOneBadOptionAtATime(t *testing.T) {
	t.Parallel()
	for complaint, o := range map[string]interceptor.Options{
		"Lease is 1ms; the least is 30ms": {Lease: time.Millisecond},
		"SettleDelay is -1s":              {SettleDelay: -time.Second},
		"HoldRetry is -1s":                {HoldRetry: -time.Second},
		"MaxOutcome is -1":                {MaxOutcome: -1},
		"17; the least is 1, and the most is 16777216, store.MaxData": {MaxOutcome: store.MaxData + 1},
		"CountRecords is 1ms; the least is 1s":                        {CountRecords: time.Millisecond},
		"CountRecords is -1s; the least is 1s":                        {CountRecords: -time.Second},
		"Defaults: TTL is 1ns":                                        {Defaults: once.Policy{TTL: 1}, Activities: once.Mark(once.Policy{}, "A")},
		"wrong result":                                                {Activities: once.Mark(once.Policy{InDoubt: once.Reconcile(func(context.Context, charge) (string, error) { return "", nil })}, (&payments{}).ChargeCard)},
		"Reconcile needs a function":                                  {Activities: once.Mark(once.Policy{InDoubt: once.Reconcile[charge, receipt](nil)}, "A")},
		"Key: keys: nil key function":                                 {Activities: once.Mark(once.Policy{Key: keys.FromCall(nil), Scope: keys.PerRun}, "A")},
		"Match: keys: nil key function":                               {Activities: once.Mark(once.Policy{Match: keys.From[charge](nil)}, "A")},
		"no such scope":                                               {Activities: once.Mark(once.Policy{Scope: 99}, "A")},
		"no such OnDuplicate":                                         {Activities: once.Mark(once.Policy{OnDuplicate: 99}, "A")},
	} {
		_, err := interceptor.New(memory(), o)
		if complaint == "wrong result" {
			complaint = "the function finds string, but the result is of type interceptor_test.receipt"
		}
		require.ErrorContains(t, err, complaint)
	}
	_, err := interceptor.New(nil, interceptor.Options{})
	require.ErrorContains(t, err, "the store is nil")
}

func TestStart_RefusesAMarkThatGuardsNothing(t *testing.T) {
	t.Parallel()
	g := newGuard(t, memory(), interceptor.Options{Activities: once.Mark(once.Policy{}, "ChargeCrad")})
	err := startError(t, g, func(r worker.Registry) { r.RegisterActivity(&payments{}) })
	require.ErrorContains(t, err, `activity "ChargeCrad" is marked but registered with no worker of this guard`)
}

func TestStart_ChecksTypedFunctionsOfMarksByName(t *testing.T) {
	t.Parallel()
	g := newGuard(t, memory(), interceptor.Options{Activities: append(
		once.Mark(once.Policy{Key: keys.From(func(in string) string { return in }), Scope: keys.PerWorkflow}, "eu_ChargeCard"),
		once.Mark(once.Policy{InDoubt: once.Reconcile(func(context.Context, int) (receipt, error) { return receipt{}, nil })}, "eu_Refund")...)})
	err := startError(t, g, func(r worker.Registry) {
		r.RegisterActivityWithOptions(&payments{}, sdkactivity.RegisterOptions{Name: "eu_"})
	})
	require.ErrorContains(t, err, "activity eu_ChargeCard: Key: keys: the key function wants string, but the argument is of type interceptor_test.charge")
	require.ErrorContains(t, err, "activity eu_Refund: Reconcile: the function wants int, but the argument is of type interceptor_test.charge")
}

func TestStart_RefusesTwoGuardsOnOneType(t *testing.T) {
	t.Parallel()
	g1 := newGuard(t, memory(), options(once.Mark(once.Policy{}, "ChargeCard")))
	g2 := newGuard(t, memory(), options(once.Mark(once.Policy{}, (&payments{}).ChargeCard)))
	for name, install := range map[string]worker.Options{
		"plugin":      {Plugins: []worker.Plugin{g2}},
		"interceptor": {Interceptors: []sdkinterceptor.WorkerInterceptor{g2}},
	} {
		w := lazyWorker(t, []client.Plugin{g1}, install)
		w.RegisterActivity(&payments{})
		require.ErrorContains(t, w.Start(), "activity ChargeCard is marked by two guards on this worker", name)
	}
}

func TestStart_RefusesAGuardWithoutTheClientsConverter(t *testing.T) {
	t.Parallel()
	g := newGuard(t, memory(), interceptor.Options{Activities: once.Mark(once.Policy{}, "ChargeCard")})
	w := lazyWorker(t, nil, worker.Options{Plugins: []worker.Plugin{g}})
	w.RegisterActivity(&payments{})
	require.ErrorContains(t, w.Start(), "the guard does not know the client's data converter: list it in client.Options.Plugins")
}

func TestStart_RefusesUnmarkedActivitiesUnderStrict(t *testing.T) {
	t.Parallel()
	o := interceptor.Options{Strict: true, Activities: once.Mark(once.Policy{}, "ChargeCard")}
	err := startError(t, newGuard(t, memory(), o), func(r worker.Registry) { r.RegisterActivity(&payments{}) })
	require.ErrorContains(t, err, "activity Refund is neither marked nor exempt")
	require.NotContains(t, err.Error(), "activity ChargeCard")

	o.Activities = append(o.Activities, once.Exempt((&payments{}).Refund)...)
	err = startError(t, newGuard(t, memory(), o), func(r worker.Registry) { r.RegisterActivity(&payments{}) })
	requireUnreachable(t, err)
}

// requireUnreachable says that the worker's checks have passed.
func requireUnreachable(t *testing.T, err error) {
	t.Helper()
	require.Error(t, err, "there is no server")
	require.NotContains(t, err.Error(), "atmostonce")
}

func TestStart_LeavesOtherDeploymentsAlone(t *testing.T) {
	t.Parallel()
	marked := func() *interceptor.Guard {
		return newGuard(t, memory(), interceptor.Options{Activities: once.Mark(once.Policy{}, "ChargeCard")})
	}
	none := func(workflow.Context) error { return nil }
	for name, register := range map[string]func(worker.Registry){
		"a worker that runs workflows only": func(r worker.Registry) { r.RegisterWorkflowWithOptions(none, workflow.RegisterOptions{Name: "none"}) },
		"a dynamic activity may serve it": func(r worker.Registry) {
			r.RegisterDynamicActivity(func(context.Context, converter.EncodedValues) error { return nil }, sdkactivity.DynamicRegisterOptions{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireUnreachable(t, startError(t, marked(), register))
		})
	}
	t.Run("a worker beside the one that registers it", func(t *testing.T) {
		t.Parallel()
		g := marked()
		first := lazyWorker(t, []client.Plugin{g}, worker.Options{})
		first.RegisterActivity((&payments{}).Refund)
		second := lazyWorker(t, []client.Plugin{g}, worker.Options{})
		second.RegisterActivity((&payments{}).ChargeCard)
		requireUnreachable(t, first.Start())
	})
}

type checkedStore struct {
	*store.Memory
	err error
}

func (c checkedStore) Check(context.Context) error { return c.err }

func TestStart_AsksTheStore(t *testing.T) {
	t.Parallel()
	start := func(err error) error {
		g := newGuard(t, checkedStore{memory(), err}, interceptor.Options{Activities: once.Mark(once.Policy{}, "ChargeCard")})
		return startError(t, g, func(r worker.Registry) { r.RegisterActivity(&payments{}) })
	}
	require.ErrorContains(t, start(errors.Join(store.ErrUnsafe, errors.New("maxmemory-policy is allkeys-lru"))), "allkeys-lru")
	requireUnreachable(t, start(store.ErrUnverified))
}
