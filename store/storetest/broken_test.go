package storetest

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
)

// broken is a Memory in which one verb is wrong. A nil field is right.
type broken struct {
	*store.Memory
	acquire  func(ctx context.Context, m *store.Memory, b store.Bid) (store.Record, error)
	renew    func(ctx context.Context, m *store.Memory, b store.Bid) (store.Record, error)
	settle   func(ctx context.Context, m *store.Memory, b store.Bid, o store.Outcome) (store.Record, error)
	release  func(ctx context.Context, m *store.Memory, b store.Bid) (store.Record, error)
	takeover func(ctx context.Context, m *store.Memory, b store.Bid, from store.Record) (store.Record, error)
	resolve  func(ctx context.Context, m *store.Memory, key string, from store.Record, r store.Resolution) (store.Record, error)
	load     func(ctx context.Context, m *store.Memory, key string) (store.Record, error)
	kind     func() string
	watches  bool
}

func (s *broken) Kind() string {
	if s.kind != nil {
		return s.kind()
	}
	return s.Memory.Kind()
}

func (s *broken) SeesDeath() bool { return s.watches }

func (s *broken) Acquire(ctx context.Context, b store.Bid) (store.Record, error) {
	if s.acquire != nil {
		return s.acquire(ctx, s.Memory, b)
	}
	return s.Memory.Acquire(ctx, b)
}

func (s *broken) Renew(ctx context.Context, b store.Bid) (store.Record, error) {
	if s.renew != nil {
		return s.renew(ctx, s.Memory, b)
	}
	return s.Memory.Renew(ctx, b)
}

func (s *broken) Settle(ctx context.Context, b store.Bid, o store.Outcome) (store.Record, error) {
	if s.settle != nil {
		return s.settle(ctx, s.Memory, b, o)
	}
	return s.Memory.Settle(ctx, b, o)
}

func (s *broken) Release(ctx context.Context, b store.Bid) (store.Record, error) {
	if s.release != nil {
		return s.release(ctx, s.Memory, b)
	}
	return s.Memory.Release(ctx, b)
}

func (s *broken) Takeover(ctx context.Context, b store.Bid, from store.Record) (store.Record, error) {
	if s.takeover != nil {
		return s.takeover(ctx, s.Memory, b, from)
	}
	return s.Memory.Takeover(ctx, b, from)
}

func (s *broken) Resolve(ctx context.Context, key string, from store.Record, r store.Resolution) (store.Record, error) {
	if s.resolve != nil {
		return s.resolve(ctx, s.Memory, key, from, r)
	}
	return s.Memory.Resolve(ctx, key, from, r)
}

func (s *broken) Load(ctx context.Context, key string) (store.Record, error) {
	if s.load != nil {
		return s.load(ctx, s.Memory, key)
	}
	return s.Memory.Load(ctx, key)
}

// recorder stands in for the test that runs a case, so that the case may fail.
type recorder struct {
	testing.TB
	failure string
}

func (r *recorder) Helper() {}

func (r *recorder) Fatalf(format string, args ...any) {
	r.failure = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// failures runs the suite and returns what each failed case said.
func failures(t *testing.T, open func() store.Store) map[string]string {
	t.Helper()
	failed := map[string]string{}
	for _, group := range suite() {
		if group.name == "linear" {
			continue // takes long; see TestHistories_RefusesBrokenStores
		}
		for _, c := range group.cases {
			synctest.Test(t, func(t *testing.T) {
				s := open()
				r := &recorder{TB: t}
				done := make(chan struct{})
				go func() {
					defer close(done)
					c.check(r, Harness{Open: func(testing.TB) store.Store { return s }})
				}()
				<-done
				if r.failure != "" {
					failed[group.name+"/"+c.name] = r.failure
				}
			})
		}
	}
	return failed
}

func TestRun_RefusesBrokenStores(t *testing.T) {
	t.Parallel()
	for name, b := range breakages {
		if b.refused == "" {
			continue // by histories only
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failed := failures(t, func() store.Store {
				s := b.make()
				s.Memory = store.NewMemory(store.MemoryOptions{})
				return s
			})
			require.Contains(t, failed, b.refused)
			require.Contains(t, failed[b.refused], "The contract: ")
			t.Logf("%d cases refuse it; %s: %s", len(failed), b.refused, failed[b.refused])
		})
	}
}

func TestRun_AcceptsMemory(t *testing.T) {
	t.Parallel()
	require.Empty(t, failures(t, func() store.Store { return store.NewMemory(store.MemoryOptions{}) }))
}

func TestSuite_Explains(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, group := range suite() {
		for _, c := range group.cases {
			name := group.name + "/" + c.name
			require.False(t, names[name], "two cases are called %s", name)
			names[name] = true
			require.Greater(t, len(c.why), 40, "%s does not say why", name)
			require.True(t, strings.HasSuffix(c.why, ".") || strings.HasSuffix(c.why, ".)"), "%s: %s", name, c.why)
		}
	}
	t.Logf("%d cases", len(names))
}

// A harness may bring its own clock and its own way to die.
func TestHarness_IsUsed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var passed, died int
		m := store.NewMemory(store.MemoryOptions{})
		h := Harness{
			Open: func(testing.TB) store.Store { return m },
			Pass: func(_ testing.TB, d time.Duration) { passed++; <-time.After(d) },
			Die:  func(_ testing.TB, _ store.Store, lease time.Duration) { died++; <-time.After(lease) },
		}
		leaseCases[0].check(t, h)
		require.Equal(t, 1, passed)
		require.Equal(t, 1, died)
	})
}
