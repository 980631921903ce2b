package cli

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"

	"github.com/atmostonce/atmostonce"
	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/internal/ops"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/store"
)

// A person is shown the record and the risk, gives a reason, and types yes.
func TestDecide_AsksThePersonAtTheTerminal(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   string
		code int
	}{{"INC-812\nyes\n", 0}, {"INC-812\ny\n", 1}, {"INC-812\nno\n", 1}, {"\nyes\n", 1}, {"INC-812\n", 1}} {
		s := store.NewMemory(store.MemoryOptions{})
		r := doubt(t, s, bidOf("1"))
		person := over(t, s)
		person.in = c.in
		got := person.run("resolve", digestOf("1"), "--failed", "no")
		require.Equal(t, c.code, got.code, c.in)
		require.Contains(t, got.err, ops.Risk(r, store.Failed))
		require.Contains(t, got.err, "order-1")
		now, err := s.Load(t.Context(), r.Key)
		require.NoError(t, err)
		require.Equal(t, c.code == 0, now.State == store.Failed)
	}
}

// What happens while the person thinks is not overwritten.
func TestDecide_IsAboutWhatThePersonSaw(t *testing.T) {
	t.Parallel()
	s := store.NewMemory(store.MemoryOptions{})
	b := claim(t, s, bidOf("1"))
	_, err := s.Settle(t.Context(), b, store.Outcome{State: store.InDoubt})
	require.NoError(t, err)
	person := over(t, s)
	with := person.surroundings()
	with.asks = true
	with.in = typing(func() {
		_, err := s.Settle(context.Background(), b, store.Outcome{State: store.Succeeded})
		require.NoError(t, err)
	})
	require.Equal(t, codeMoved, person.options.run(t.Context(), []string{"--disable-config-file", "resolve", digestOf("1"), "--failed", "no", "--reason", "x"}, with))
	now, err := s.Load(t.Context(), b.Key)
	require.NoError(t, err)
	require.Equal(t, store.Succeeded, now.State)
}

// typing is a person who types yes after something has happened.
type typing func()

func (f typing) Read(p []byte) (int, error) {
	f()
	return copy(p, "yes\n"), nil
}

// What runs is decided with --force only, and then is.
func TestDecide_ForcesOnlyWhatRuns(t *testing.T) {
	t.Parallel()
	s := store.NewMemory(store.MemoryOptions{})
	claim(t, s, bidOf("1"))
	c := over(t, s)
	args := []string{"resolve", digestOf("1"), "--failed", "no", "--reason", "x", "--yes"}
	require.Equal(t, 1, c.run(args...).code)
	c.ok(append(args, "--force")...)
	require.Equal(t, codeMoved, c.run(args...).code, "it is settled now")
}

type receipt struct{ ID string }

func chargeCard(context.Context, string) (receipt, error) { return receipt{}, nil }

// A program of the user's own knows the types of its activities.
func TestMain_KnowsTheUsersMarks(t *testing.T) {
	t.Parallel()
	s := store.NewMemory(store.MemoryOptions{})
	guard, err := interceptor.New(s, interceptor.Options{
		Activities: once.Mark(once.Policy{}, chargeCard), DataConverter: converter.GetDefaultDataConverter(),
	})
	require.NoError(t, err)
	b := bidOf("1")
	b.Info.Activity = "chargeCard"
	doubt(t, s, b)
	c := &console{t: t, options: Options{Guard: guard, Store: s}}
	decide := func(args ...string) ran {
		return c.run(append([]string{"resolve", digestOf("1"), "--done", "--reason", "x", "--yes"}, args...)...)
	}
	for _, wrong := range []string{`{"Id":7}`, `"r"`, `{"ID":"r","more":1}`} {
		require.Equal(t, 1, decide("--result", wrong).code, wrong)
	}
	require.Equal(t, 1, decide("--no-result").code)
	require.Zero(t, decide("--result", `{"ID":"ch_9"}`).code)
	require.Contains(t, c.ok("show", digestOf("1"), "--decode"), `{"ID":"ch_9"}`)
	c.options.Store = nil
	require.Equal(t, 2, c.run("list").code, "a guard without its store")
}

// What comes next is said under the policy that the guard carries out; where it carries
// out none, or is not known, nothing is promised.
func TestMain_SaysWhatTheUsersPolicyDoesNext(t *testing.T) {
	t.Parallel()
	const unknown = "The policy of its worker decides"
	s := store.NewMemory(store.MemoryOptions{})
	policy := once.Policy{InDoubt: once.HoldFor(7 * time.Hour)}
	activities := func(o interceptor.Options, marks ...once.Marked) Guard {
		o.Activities, o.DataConverter = marks, converter.GetDefaultDataConverter()
		g, err := interceptor.New(s, o)
		require.NoError(t, err)
		return g
	}
	functions := func(o atmostonce.Options) Guard {
		g, err := atmostonce.New(s, o)
		require.NoError(t, err)
		p := policy
		p.Key = keys.From(func(in string) string { return in })
		atmostonce.Func(g, "ChargeCard", p, func(context.Context, string) (receipt, error) { return receipt{}, nil })
		return g
	}
	observed := func(string) once.Mode { return once.Observe }
	of := func(order, activity string, function bool) string {
		b := bidOf(order)
		if b.Info.Activity = activity; function {
			b.Info.Holder = store.Holder{Namespace: "shop", ActivityRunID: "019b", Worker: "19102@vm"}
		}
		doubt(t, s, b)
		return digestOf(order)
	}
	activity, step, function, functionStep := of("1", "ChargeCard", false), of("2", "ChargeCard/step", false), of("3", "ChargeCard", true), of("4", "ChargeCard/step", true)
	const held = "after 7h0m0s in doubt the call fails"
	marks := once.Mark(policy, "ChargeCard")
	for _, c := range []struct {
		name  string
		guard Guard
		says  map[string]string
	}{
		{"a guard of activities", activities(interceptor.Options{}, marks...), map[string]string{activity: held, step: unknown, function: unknown, functionStep: unknown}},
		{"by default", activities(interceptor.Options{Defaults: policy}, once.Mark(once.Policy{}, "ChargeCard")...), map[string]string{activity: held}},
		{"another mark", activities(interceptor.Options{Defaults: policy}, once.Mark(once.Policy{}, "Refund")...), map[string]string{activity: unknown}},
		{"observing", activities(interceptor.Options{Mode: observed}, marks...), map[string]string{activity: unknown}},
		{"a guard of functions", functions(atmostonce.Options{Namespace: "shop"}), map[string]string{activity: unknown, step: unknown, function: held, functionStep: unknown}},
		{"of another namespace", functions(atmostonce.Options{Namespace: "other"}), map[string]string{function: unknown}},
		{"observing functions", functions(atmostonce.Options{Namespace: "shop", Mode: observed}), map[string]string{function: unknown}},
		{"no guard", nil, map[string]string{activity: unknown, function: unknown}},
	} {
		tool := over(t, s)
		tool.options.Guard = c.guard
		for digest, says := range c.says {
			require.Contains(t, tool.ok("show", digest), says, c.name)
		}
	}
}

// Records of guarded functions are decided by the guard of functions.
func TestDecide_KnowsFunctions(t *testing.T) {
	t.Parallel()
	s, err := store.NewFile(filepath.Join(t.TempDir(), "store"), store.FileOptions{AnyFileSystem: true})
	require.NoError(t, err)
	defer s.Close()
	guard, err := atmostonce.New(s, atmostonce.Options{})
	require.NoError(t, err)
	charge := atmostonce.Func(guard, "charge", once.Policy{Key: keys.From(func(in string) string { return in })}, func(context.Context, string) (receipt, error) {
		return receipt{}, once.MaybeDone(context.DeadlineExceeded)
	})
	_, err = charge(t.Context(), "1")
	require.Error(t, err)
	c := over(t, s)
	c.ok("resolve", "--workflow-id", "", "--done", "--result", `{"ID":"ch_9"}`, "--reason", "x", "--yes", onlyDigest(t, s))
	got, err := charge(t.Context(), "1")
	require.NoError(t, err)
	require.Equal(t, receipt{"ch_9"}, got)
	require.Contains(t, c.ok("show", onlyDigest(t, s), "--decode"), "ch_9")
}

func onlyDigest(t *testing.T, s store.Store) string {
	t.Helper()
	for r, err := range s.List(t.Context(), store.Query{}) {
		require.NoError(t, err)
		return ops.NewView(r, 0, once.Policy{}).Digest
	}
	require.Fail(t, "no record")
	return ""
}
