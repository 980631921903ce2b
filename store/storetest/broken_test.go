package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
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
}

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

// breakages are stores with one fault each, and a case that must refuse them.
var breakages = map[string]struct {
	refused string
	make    func() *broken
}{
	"the lease is the record's TTL": {"expiry/a lease's end is not a record's end", func() *broken {
		return &broken{acquire: func(ctx context.Context, m *store.Memory, b store.Bid) (store.Record, error) {
			b.TTL = b.Lease
			return m.Acquire(ctx, b)
		}}
	}},
	"acquire grants once per call, not per nonce": {"acquire/the same nonce gets the same grant", func() *broken {
		return &broken{acquire: func(ctx context.Context, m *store.Memory, b store.Bid) (store.Record, error) {
			if r, err := m.Load(ctx, b.Key); err != nil || r.Owned(b.Owner) {
				return r, errors.Join(err, store.ErrSuperseded)
			}
			return m.Acquire(ctx, b)
		}}
	}},
	"acquire takes over": {"lease/a dead owner's record is marked in doubt", func() *broken {
		return &broken{acquire: func(ctx context.Context, m *store.Memory, b store.Bid) (store.Record, error) {
			r, err := m.Acquire(ctx, b)
			if err == nil && r.Marked {
				return m.Takeover(ctx, b, r)
			}
			return r, err
		}}
	}},
	"acquire asks, then writes": {"contention/one of many is granted", func() *broken {
		var mu sync.Mutex
		asked := map[string]int{}
		return &broken{acquire: func(ctx context.Context, m *store.Memory, b store.Bid) (store.Record, error) {
			r, err := m.Acquire(ctx, b)
			mu.Lock()
			defer mu.Unlock()
			if asked[b.Key]++; asked[b.Key] == 2 && r.State == store.Running {
				r.Owner = b.Owner
			}
			return r, err
		}}
	}},
	"fences start anew": {"acquire/fences and revisions rise with every claim", func() *broken {
		return &broken{acquire: func(ctx context.Context, m *store.Memory, b store.Bid) (store.Record, error) {
			r, err := m.Acquire(ctx, b)
			r.Fence = 1
			return r, err
		}}
	}},
	"keys are folded": {"keys/hostile keys are kept apart", func() *broken {
		return &broken{acquire: func(ctx context.Context, m *store.Memory, b store.Bid) (store.Record, error) {
			if b.Key != theKey {
				b.Key = strings.ToLower(b.Key)
			}
			return m.Acquire(ctx, b)
		}}
	}},
	"a context that has ended is ignored": {"calls/a cancelled call changes nothing", func() *broken {
		return &broken{release: func(ctx context.Context, m *store.Memory, b store.Bid) (store.Record, error) {
			return m.Release(context.WithoutCancel(ctx), b)
		}}
	}},
	"renew creates": {"lease/a renewal without a record creates none", func() *broken {
		return &broken{renew: func(ctx context.Context, m *store.Memory, b store.Bid) (store.Record, error) {
			r, err := m.Renew(ctx, b)
			if errors.Is(err, store.ErrGone) {
				_, _ = m.Acquire(ctx, b)
			}
			return r, err
		}}
	}},
	"settle asks nobody": {"settle/only the owner settles", func() *broken {
		return &broken{settle: func(ctx context.Context, m *store.Memory, b store.Bid, o store.Outcome) (store.Record, error) {
			if r, err := m.Load(ctx, b.Key); err == nil && r.State == store.Running {
				b.Owner, b.Fence = r.Owner, r.Fence
			}
			return m.Settle(ctx, b, o)
		}}
	}},
	"settle goes by time": {"settle/an owner that comes late is heard", func() *broken {
		return &broken{settle: func(ctx context.Context, m *store.Memory, b store.Bid, o store.Outcome) (store.Record, error) {
			if r, err := m.Load(ctx, b.Key); err == nil && r.State == store.Running && r.Now.After(r.LeaseEnd) {
				return r, store.ErrSuperseded
			}
			return m.Settle(ctx, b, o)
		}}
	}},
	"settle loses a superseded success": {"late/a superseded success waits beside a running record", func() *broken {
		return &broken{settle: func(ctx context.Context, m *store.Memory, b store.Bid, o store.Outcome) (store.Record, error) {
			if r, err := m.Load(ctx, b.Key); err == nil && r.State != store.Absent && r.Owner != b.Owner {
				return r, store.ErrConflict
			}
			return m.Settle(ctx, b, o)
		}}
	}},
	"settle keeps text": {"bytes/an outcome's bytes come back as they were", func() *broken {
		return &broken{settle: func(ctx context.Context, m *store.Memory, b store.Bid, o store.Outcome) (store.Record, error) {
			o.Data = bytes.ToValidUTF8(o.Data, []byte("?"))
			return m.Settle(ctx, b, o)
		}}
	}},
	"outcomes are shared": {"bytes/what goes in is copied", func() *broken {
		var shared sync.Map
		return &broken{
			settle: func(ctx context.Context, m *store.Memory, b store.Bid, o store.Outcome) (store.Record, error) {
				shared.Store(b.Key, o.Data)
				return m.Settle(ctx, b, o)
			},
			load: func(ctx context.Context, m *store.Memory, key string) (store.Record, error) {
				r, err := m.Load(ctx, key)
				if data, ok := shared.Load(key); ok && r.State == store.Succeeded {
					r.Outcome.Data = data.([]byte)
				}
				return r, err
			},
		}
	}},
	"release deletes": {"acquire/a released nonce is refused", func() *broken {
		return &broken{release: func(ctx context.Context, m *store.Memory, b store.Bid) (store.Record, error) {
			r, err := m.Release(ctx, b)
			m.Clear()
			return r, err
		}}
	}},
	"release speaks for all": {"release/a release after a takeover returns to doubt", func() *broken {
		return &broken{takeover: func(ctx context.Context, m *store.Memory, b store.Bid, from store.Record) (store.Record, error) {
			b.Clean = true
			return m.Takeover(ctx, b, from)
		}}
	}},
	"takeover compares nothing": {"takeover/a takeover compares the revision", func() *broken {
		return &broken{takeover: func(ctx context.Context, m *store.Memory, b store.Bid, _ store.Record) (store.Record, error) {
			r, err := m.Load(ctx, b.Key)
			if err != nil {
				return r, err
			}
			return m.Takeover(ctx, b, r)
		}}
	}},
	"resolve compares nothing": {"resolve/a resolution compares the revision", func() *broken {
		return &broken{resolve: func(ctx context.Context, m *store.Memory, key string, _ store.Record, res store.Resolution) (store.Record, error) {
			r, err := m.Load(ctx, key)
			if err != nil {
				return r, err
			}
			return m.Resolve(ctx, key, r, res)
		}}
	}},
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
