package cli

import (
	"context"
	"path/filepath"
	"testing"

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
