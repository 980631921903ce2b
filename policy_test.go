package atmostonce_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

func TestFunc_PanicAndGoexitPassThroughAndAreInDoubt(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(){"panic": func() { panic("boom") }, "Goexit": runtime.Goexit} {
		for _, d := range []once.DuplicatePolicy{once.Return, once.Wait} {
			synctest.Test(t, func(t *testing.T) {
				g := newGuard(t, atmostonce.Options{})
				charge := atmostonce.Func(g, "charge", under(func(p *once.Policy) { p.OnDuplicate = d }), func(context.Context, event) (receipt, error) { end(); return receipt{}, nil })
				var got any
				ended, returned := make(chan struct{}), false
				go func() {
					defer close(ended)
					defer func() { got = recover() }()
					_, _ = charge(t.Context(), event{ID: "7"})
					returned = true
				}()
				<-ended
				require.False(t, returned)
				require.Equal(t, name == "panic", got != nil)
				_, err := charge(t.Context(), event{ID: "7"})
				requireRefusal(t, err, once.InDoubt)
				require.ErrorContains(t, err, "the function panicked")
				require.NoError(t, g.Close(t.Context()))
			})
		}
	}
}

func TestFunc_ResultsOfEveryKind(t *testing.T) {
	t.Parallel()
	g := newGuard(t, atmostonce.Options{})
	twice(t, g, "a struct", receipt{"ch"})
	twice(t, g, "a pointer", &receipt{"ch"})
	twice(t, g, "a nil pointer", (*receipt)(nil))
	twice(t, g, "nothing", struct{}{})
	twice(t, g, "any", any("text"))
	twice(t, g, "a nil any", any(nil))
	twice(t, g, "a list", []int{1, 2})
	twice(t, g, "no list", []int(nil))
	twice(t, g, "bytes", []byte{0, 255})
	twice(t, g, "a table", map[string]int{"a": 1})
	twice(t, g, "a time", time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC))
}

func twice[Out any](t *testing.T, g *atmostonce.Guard, name string, want Out) {
	t.Helper()
	runs := 0
	f := atmostonce.Func(g, name, byID, func(context.Context, event) (Out, error) { runs++; return want, nil })
	for range 2 {
		got, err := f(t.Context(), event{ID: "7"})
		require.NoError(t, err, name)
		require.Equal(t, want, got, name)
	}
	require.Equal(t, 1, runs)
}

func TestFunc_TheWholeInputIsTheKeyByDefault(t *testing.T) {
	t.Parallel()
	g := newGuard(t, atmostonce.Options{})
	runs := 0
	f := atmostonce.Func(g, "charge", once.Policy{}, func(context.Context, event) (int, error) { runs++; return runs, nil })
	hashed := atmostonce.Func(g, "hashed", once.Policy{Key: keys.Hash(), Scope: keys.PerNamespace}, func(context.Context, event) (int, error) { return 0, nil })
	require.NoError(t, g.Err())
	for _, c := range []struct {
		in   event
		want int
	}{{event{"7", ""}, 1}, {event{"7", ""}, 1}, {event{"7", "x"}, 2}, {event{"7", ""}, 1}} {
		n, err := f(t.Context(), c.in)
		require.NoError(t, err)
		require.Equal(t, c.want, n)
	}
	_, err := hashed(t.Context(), event{})
	require.NoError(t, err)
}

func TestFunc_OtherInputUnderAKeyIsAMismatch(t *testing.T) {
	t.Parallel()
	for _, d := range []once.DuplicatePolicy{once.Return, once.Reject, once.Wait} {
		f := atmostonce.Func(newGuard(t, atmostonce.Options{}), "charge", under(func(p *once.Policy) { p.Match, p.OnDuplicate = keys.Hash(), d }), echo)
		_, err := f(t.Context(), event{"7", "a"})
		require.NoError(t, err)
		_, err = f(t.Context(), event{"7", "b"})
		require.Zero(t, refusalOf(t, err, once.Mismatch).RetryAfter)
	}
}

// What a duplicate gets whose key was left in doubt, at once and after the settle delay.
func TestFunc_InDoubt(t *testing.T) {
	t.Parallel()
	found := once.Reconcile(func(ctx context.Context, in event) (receipt, error) {
		if once.Key(ctx) == "" {
			return receipt{}, errors.New("no key")
		}
		return receipt{"found"}, nil
	})
	for name, c := range map[string]struct {
		policy once.DoubtPolicy
		after  once.Reason // "" if it gets a receipt
		retry  time.Duration
		result string
		runs   int
	}{
		"Hold":              {once.Hold, once.InDoubt, 30 * time.Second, "", 1},
		"HoldFor":           {once.HoldFor(40 * time.Second), once.InDoubt, 10 * time.Second, "", 1},
		"HoldFor, over":     {once.HoldFor(time.Second), once.InDoubt, 0, "", 1},
		"Fail":              {once.Fail, once.InDoubt, 0, "", 1},
		"Rerun":             {once.Rerun, "", 0, "run 2", 2},
		"Reconcile, found":  {found, "", 0, "found", 1},
		"Reconcile, undone": {once.Reconcile(func(context.Context, event) (receipt, error) { return receipt{}, once.ErrNotDone }), "", 0, "run 2", 2},
		"Reconcile, unknown": {once.Reconcile(func(context.Context, event) (receipt, error) { return receipt{}, errors.New("no answer") }), once.InDoubt,
			30 * time.Second, "", 1},
	} {
		for _, d := range []once.DuplicatePolicy{once.Return, once.Wait} {
			synctest.Test(t, func(t *testing.T) {
				g := newGuard(t, atmostonce.Options{})
				runs := 0
				p := under(func(p *once.Policy) { p.InDoubt, p.OnDuplicate = c.policy, d })
				charge := atmostonce.Func(g, "charge", p, func(ctx context.Context, _ event) (receipt, error) {
					if runs++; runs > 1 {
						claim, _ := once.FromContext(ctx)
						require.Equal(t, c.policy == once.Rerun, claim.Takeover)
						return receipt{"run 2"}, nil
					}
					return receipt{}, once.MaybeDone(errors.New("no answer"))
				})
				_, err := charge(t.Context(), event{ID: "7"})
				requireRefusal(t, err, once.InDoubt)
				require.True(t, atmostonce.MayHaveHappened(err))

				began := time.Now()
				r, err := charge(t.Context(), event{ID: "7"})
				if d == once.Return {
					require.Equal(t, 30*time.Second, refusalOf(t, err, once.InDoubt).RetryAfter, "the settle delay")
					time.Sleep(30 * time.Second) //nolint:forbidigo // a bubble's clock
					r, err = charge(t.Context(), event{ID: "7"})
				}
				require.Equal(t, 30*time.Second, time.Since(began), name)
				if c.after == "" {
					require.NoError(t, err, name)
					require.Equal(t, receipt{c.result}, r, name)
				} else {
					require.Equal(t, c.retry, refusalOf(t, err, c.after).RetryAfter, name)
				}
				require.Equal(t, c.runs, runs, name)
				require.NoError(t, g.Close(t.Context()))
			})
		}
	}
}

func TestFunc_OfWhatIsOlderThanTheGuard(t *testing.T) {
	t.Parallel()
	rollOut := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	g := newGuard(t, atmostonce.Options{DistrustBefore: rollOut})
	runs := 0
	charge := atmostonce.Func(g, "charge", byID, func(context.Context, event) (receipt, error) { runs++; return receipt{}, nil })
	_, err := charge(t.Context(), event{ID: "now"})
	require.NoError(t, err, "a call is of its own time where nobody says more")
	_, err = charge(atmostonce.WithEventTime(t.Context(), time.Time{}), event{ID: "unknown"})
	require.NoError(t, err)
	_, err = charge(atmostonce.WithEventTime(t.Context(), rollOut), event{ID: "new"})
	require.NoError(t, err)
	_, err = charge(atmostonce.WithEventTime(t.Context(), rollOut.Add(-time.Second)), event{ID: "old"})
	requireRefusal(t, err, once.InDoubt)
	require.True(t, atmostonce.MayHaveHappened(err))
	require.Equal(t, 3, runs)

	byDay := keys.FromCall(func(c keys.Call) (string, error) { return c.Scheduled.Format(time.DateOnly), nil })
	nightly := atmostonce.Func(g, "nightly", once.Policy{Key: byDay, Match: keys.Any()}, func(context.Context, struct{}) (int, error) { runs++; return runs, nil })
	for _, at := range []time.Time{rollOut, rollOut.Add(time.Hour), rollOut.AddDate(0, 0, 1)} {
		_, err = nightly(atmostonce.WithEventTime(t.Context(), at), struct{}{})
		require.NoError(t, err)
	}
	require.Equal(t, 5, runs)
}

func TestFunc_Modes(t *testing.T) {
	t.Parallel()
	for mode, asked := range map[once.Mode]bool{once.Observe: true, once.Off: false} {
		s := newWatched()
		seen := &listener{}
		g := newGuardOver(t, s, atmostonce.Options{Observers: []observe.Observer{seen}, Mode: func(name string) once.Mode {
			require.Equal(t, "charge", name)
			return mode
		}})
		runs := 0
		var charge func(context.Context, event) (receipt, error)
		charge = atmostonce.Func(g, "charge", byID, func(ctx context.Context, in event) (receipt, error) {
			if runs++; in.Note == "itself" {
				return charge(ctx, event{ID: in.ID})
			}
			return receipt{once.Key(ctx)}, nil
		})
		first, err := charge(t.Context(), event{ID: "7"})
		require.NoError(t, err)
		require.Len(t, first.Charge, 64)
		second, err := charge(t.Context(), event{ID: "7"})
		require.NoError(t, err)
		require.Equal(t, first, second)
		_, err = charge(t.Context(), event{ID: "8", Note: "itself"})
		require.NoError(t, err)
		require.Equal(t, 4, runs)
		require.Equal(t, asked, s.calls.Load() > 0, mode)
		require.Equal(t, asked, seen.has(observe.Observed))
		r, _ := g.Find(t.Context(), first.Charge)
		require.Equal(t, asked, r.State == store.Succeeded, "what is observed is recorded")
		require.NoError(t, g.Close(t.Context()))
		_, err = charge(t.Context(), event{ID: "7"})
		require.NoError(t, err, "what is not guarded needs no guard")
	}
	nothing := atmostonce.Func[event, receipt](newGuard(t, atmostonce.Options{Mode: func(string) once.Mode { return once.Off }}), "charge", byID, nil)
	_, err := nothing(t.Context(), event{ID: "7"})
	requireRefusal(t, err, once.BadSetup)
}

// listener remembers what was reported.
type listener struct {
	mu  sync.Mutex
	all []observe.Event
}

func (n *listener) Begin(ctx context.Context, _ observe.Event) (context.Context, func(observe.Event)) {
	return ctx, func(e observe.Event) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.all = append(n.all, e)
	}
}

func (n *listener) has(what observe.Notice) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range n.all {
		if e.Notice == what {
			return true
		}
	}
	return false
}

func TestGuard_SecretHidesInputs(t *testing.T) {
	t.Parallel()
	s := store.NewMemory(store.MemoryOptions{})
	keysOf := map[string]bool{}
	for _, secret := range []string{"", "0123456789abcdef", "fedcba9876543210"} {
		g := newGuardOver(t, s, atmostonce.Options{KeySecret: []byte(secret)})
		charge := atmostonce.Func(g, "charge", byID, func(ctx context.Context, _ event) (string, error) { return once.Key(ctx), nil })
		key, err := charge(t.Context(), event{ID: "card4711"})
		require.NoError(t, err)
		keysOf[key] = true
		r, err := g.Find(t.Context(), key)
		require.NoError(t, err)
		require.Equal(t, secret == "", bytes.Contains([]byte(r.Key), []byte("card4711")))
	}
	require.Len(t, keysOf, 3)
}

func TestGuard_EachHasItsStoreAndItsNamespace(t *testing.T) {
	t.Parallel()
	runs := 0
	charge := func(g *atmostonce.Guard) {
		_, err := atmostonce.Func(g, "charge", byID, func(context.Context, event) (int, error) { runs++; return 0, nil })(t.Context(), event{ID: "7"})
		require.NoError(t, err)
	}
	s := store.NewMemory(store.MemoryOptions{})
	charge(newGuardOver(t, s, atmostonce.Options{}))
	charge(newGuardOver(t, s, atmostonce.Options{}))
	require.Equal(t, 1, runs)
	charge(newGuardOver(t, s, atmostonce.Options{Namespace: "shop"}))
	charge(newGuard(t, atmostonce.Options{}))
	require.Equal(t, 3, runs)
}

func TestDo_IsOncePerNameAndKey(t *testing.T) {
	t.Parallel()
	g := newGuard(t, atmostonce.Options{})
	runs := 0
	do := func(name, key string) (int, error) {
		return atmostonce.Do(t.Context(), g, name, key, func(context.Context) (int, error) { runs++; return runs, nil })
	}
	for _, c := range []struct {
		name, key string
		want      int
	}{{"a", "7", 1}, {"a", "7", 1}, {"a", "8", 2}, {"b", "7", 3}, {"a", "7", 1}} {
		n, err := do(c.name, c.key)
		require.NoError(t, err)
		require.Equal(t, c.want, n)
	}
	_, err := do("", "7")
	requireRefusal(t, err, once.BadSetup)
	_, err = atmostonce.Do[int](t.Context(), g, "c", "7", nil)
	requireRefusal(t, err, once.BadSetup)
	require.NoError(t, g.Err(), "Err is about what Func was given")
	asks := newGuard(t, atmostonce.Options{Defaults: once.Policy{InDoubt: once.Reconcile(func(context.Context, event) (int, error) { return 0, nil })}})
	_, err = atmostonce.Do(t.Context(), asks, "a", "7", func(context.Context) (int, error) { return 1, nil })
	requireRefusal(t, err, once.BadSetup)
	require.ErrorContains(t, err, "use Func")
}

func TestGuard_LogsAndMeasures(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	seen := &recorder{}
	g := newGuard(t, atmostonce.Options{Logger: slog.New(slog.NewTextHandler(&log, nil)), Observers: []observe.Observer{seen}})
	charge := atmostonce.Func(g, "charge", byID, func(context.Context, event) (receipt, error) {
		return receipt{}, once.MaybeDone(errors.New("no answer"))
	})
	_, err := charge(t.Context(), event{ID: "7"})
	requireRefusal(t, err, once.InDoubt)
	require.Contains(t, log.String(), "Notice=in_doubt Function=charge KeyDigest=")
	counted := seen.counted()
	require.Equal(t, "functions//charge/executed/in_doubt", counted[len(counted)-1])
	require.Contains(t, counted[:len(counted)-1], "functions//charge/failed/store_down", "known before it happens")
	require.NoError(t, g.Close(t.Context()))
}

// recorder takes metrics.
type recorder struct {
	listener
	calls []string
}

func (r *recorder) Recorder() func(context.Context, observe.Measurement) {
	return func(_ context.Context, m observe.Measurement) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if m.Metric == observe.Calls {
			v := m.Values
			r.calls = append(r.calls, v[0]+"/"+v[1]+"/"+v[2]+"/"+v[3]+"/"+v[4])
		}
	}
}

func (r *recorder) counted() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls
}
