package engine

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// batching is a store that renews in batches.
type batching struct {
	store.Store
	mu      sync.Mutex
	batches []batch
	answer  func(ctx context.Context, bids []store.Bid) []store.Renewed
}

type batch struct {
	at   time.Time
	keys []string
}

func (s *batching) RenewAll(ctx context.Context, bids []store.Bid) []store.Renewed {
	b := batch{at: time.Now()}
	for _, bid := range bids {
		b.keys = append(b.keys, bid.Key)
	}
	s.mu.Lock()
	s.batches = append(s.batches, b)
	s.mu.Unlock()
	if s.answer != nil {
		return s.answer(ctx, bids)
	}
	return make([]store.Renewed, len(bids))
}

// noticed keeps the notices of all calls.
type noticed struct {
	mu    sync.Mutex
	all   []observe.Notice
	hangs time.Duration // for so long
}

func (n *noticed) Begin(ctx context.Context, e observe.Event) (context.Context, func(observe.Event)) {
	if n.hangs > 0 {
		<-time.After(n.hangs)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if e.Kind == observe.KindNotice {
		n.all = append(n.all, e.Notice)
	}
	return ctx, func(observe.Event) {}
}

func (n *noticed) count(what observe.Notice) (count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, x := range n.all {
		if x == what {
			count++
		}
	}
	return count
}

type noSink struct{}

func (noSink) Destination(context.Context) any                   { return nil }
func (noSink) All() []any                                        { return nil }
func (noSink) Measure(context.Context, any, observe.Measurement) {}
func (noSink) Logger(context.Context) Logger                     { return nil }
func (noSink) Log() Logger                                       { return nil }

// holding is an engine whose claims are held without calls.
type holding struct {
	*Engine
	policy once.Policy
	seen   *noticed
}

func newHolding(t *testing.T, s store.Store, p once.DoubtPolicy) *holding {
	t.Helper()
	seen := &noticed{}
	o, err := Options{Observers: []observe.Observer{seen}}.Complete()
	require.NoError(t, err)
	return &holding{New(s, o, noSink{}), once.Policy{InDoubt: p}, seen}
}

// hold holds the claim of a key, which was asked for just now.
func (h *holding) hold(key string) (context.Context, *lease) { return h.holdSince(key, time.Now()) }

func (h *holding) holdSince(key string, sent time.Time) (context.Context, *lease) {
	c := &claim{
		store: h.store, request: &Request{Policy: h.policy}, account: h.reporter.open(Identity{}, h.policy),
		bid: store.Bid{Key: key, Owner: key, Lease: h.options.Lease}, sent: sent,
	}
	return c.hold(context.Background(), h.renewer)
}

func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestRenewer_RenewsTogetherWhatIsDueSoon(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &batching{Store: store.NewMemory(store.MemoryOptions{})}
		h := newHolding(t, s, once.Hold)
		var leases []*lease
		for n := range 4 {
			_, l := h.hold(strconv.Itoa(n))
			leases = append(leases, l)
			pass(400 * time.Millisecond)
		}
		pass(18*time.Second + 500*time.Millisecond) // 20.1 s after the first
		require.Len(t, s.batches, 1)
		require.ElementsMatch(t, []string{"0", "1", "2"}, s.batches[0].keys, "within a sixtieth of the lease")
		leases[1].end()
		leases[3].end()
		pass(20 * time.Second)
		require.Len(t, s.batches, 2)
		require.ElementsMatch(t, []string{"0", "2"}, s.batches[1].keys)
		require.Equal(t, 20*time.Second, s.batches[1].at.Sub(s.batches[0].at))
		leases[0].end()
		leases[2].end()
		pass(time.Hour)
		require.Len(t, s.batches, 2)
		require.True(t, h.renewer.armed.IsZero(), "no timer runs")
	})
}

func TestRenewer_SpreadsWhatBeganAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const claims = 10_000
		s := &batching{Store: store.NewMemory(store.MemoryOptions{})}
		h := newHolding(t, s, once.Hold)
		var leases []*lease
		for n := range claims {
			_, l := h.hold(strconv.Itoa(n))
			leases = append(leases, l)
		}
		pass(61 * time.Second)
		at, last := map[time.Time]int{}, map[string]time.Time{}
		began := s.batches[0].at
		for _, b := range s.batches {
			require.LessOrEqual(t, len(b.keys), maxBatch)
			require.LessOrEqual(t, len(b.keys), claims/10, "a batch is one message")
			if b.at.After(began) {
				at[b.at] += len(b.keys)
			}
			for _, key := range b.keys {
				if before, renewed := last[key]; renewed {
					require.LessOrEqual(t, b.at.Sub(before), 20*time.Second)
				}
				last[key] = b.at
			}
		}
		require.Len(t, last, claims)
		for when, n := range at {
			require.LessOrEqual(t, n, maxBatch, "%v", when.Sub(began))
		}
		for _, l := range leases {
			l.end()
		}
	})
}

func TestRenewer_CutsOffAClaimThatBeganLaterAndEndsEarlier(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHolding(t, &batching{Store: store.NewMemory(store.MemoryOptions{})}, once.Rerun)
		_, l1 := h.hold("1")
		began := time.Now()
		body, l2 := h.holdSince("2", began.Add(-52*time.Second))
		<-l2.body.Context.Done() // without a look at the clocks
		require.Equal(t, 2*time.Second, time.Since(began))
		require.ErrorIs(t, context.Cause(body), errLeaseOver)
		l1.end()
		l2.end()
	})
}

// An answer that takes its time speaks of when it was asked for.
func TestRenewer_ASlowAnswerMakesNoClaimLiveLonger(t *testing.T) {
	t.Parallel()
	for how, batches := range map[string]bool{"one by one": false, "in a batch": true} {
		synctest.Test(t, func(t *testing.T) {
			renewals := 0
			renew := func() {
				if renewals++; renewals > 1 {
					runtime.Goexit()
				}
				<-time.After(15 * time.Second)
			}
			var s store.Store = &renewing{Store: store.NewMemory(store.MemoryOptions{}), renew: renew}
			if batches {
				s = &batching{Store: s, answer: func(_ context.Context, bids []store.Bid) []store.Renewed {
					renew()
					return make([]store.Renewed, len(bids))
				}}
			}
			h := newHolding(t, s, once.Rerun)
			began := time.Now()
			body, l := h.hold("k")
			<-body.Done()
			require.Equal(t, 20*time.Second+54*time.Second, time.Since(began), how)
			l.end()
		})
	}
}

func TestRenewer_ABatchThatHangsHoldsUpNoCutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &batching{Store: store.NewMemory(store.MemoryOptions{})}
		s.answer = func(ctx context.Context, bids []store.Bid) []store.Renewed {
			<-ctx.Done()
			return slices.Repeat([]store.Renewed{{Err: ctx.Err()}}, len(bids))
		}
		h := newHolding(t, s, once.Rerun)
		began := time.Now()
		first, l1 := h.hold("1")
		pass(5 * time.Second)
		second, l2 := h.hold("2")
		<-first.Done()
		require.Equal(t, 54*time.Second, time.Since(began))
		require.ErrorIs(t, context.Cause(first), errLeaseOver)
		<-second.Done()
		require.Equal(t, 59*time.Second, time.Since(began))
		synctest.Wait()
		require.Equal(t, 2, h.seen.count(observe.LeaseLost))
		require.NotZero(t, h.seen.count(observe.RenewFailed))
		l1.end()
		l2.end()
	})
}

func TestRenewer_WithoutBatchesOneThatHangsHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &hangsFor{Store: store.NewMemory(store.MemoryOptions{}), key: "1"}
		h := newHolding(t, s, once.Rerun)
		first, l1 := h.hold("1")
		second, l2 := h.hold("2")
		pass(20 * time.Second)
		require.EqualValues(t, 1, s.others.Load())
		<-first.Done()
		require.ErrorIs(t, context.Cause(first), errLeaseOver)
		pass(time.Minute)
		require.NoError(t, second.Err())
		l1.end()
		l2.end()
	})
}

// hangsFor is a store whose renewals of one key hang.
type hangsFor struct {
	store.Store
	key    string
	others atomic.Int32
}

func (s *hangsFor) Renew(ctx context.Context, b store.Bid) (store.Record, error) {
	if b.Key == s.key {
		<-ctx.Done()
		return store.Record{}, ctx.Err()
	}
	s.others.Add(1)
	return store.Record{Owner: b.Owner}, nil
}

func TestRenewer_AnObserverThatHangsHoldsUpNoCutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &batching{Store: store.NewMemory(store.MemoryOptions{})}
		s.answer = func(_ context.Context, bids []store.Bid) []store.Renewed {
			return slices.Repeat([]store.Renewed{{Err: errors.New("?")}}, len(bids))
		}
		h := newHolding(t, s, once.Rerun)
		h.seen.hangs = time.Hour
		began := time.Now()
		_, l1 := h.hold("1")
		body, l2 := h.holdSince("2", began.Add(-33500*time.Millisecond))
		<-body.Done() // right after a renewal has failed
		require.Equal(t, 20500*time.Millisecond, time.Since(began))
		l1.end()
		l2.end()
		pass(3 * time.Hour) // until the observer has come back
	})
}

// Each bid has an answer of its own.
func TestRenewer_TakesEachAnswerForItsOwnClaim(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &batching{Store: store.NewMemory(store.MemoryOptions{})}
		s.answer = func(_ context.Context, bids []store.Bid) (all []store.Renewed) {
			for _, b := range bids {
				switch b.Key {
				case "another's":
					all = append(all, store.Renewed{Record: store.Record{Owner: "x"}, Err: store.ErrSuperseded})
				case "its own end":
					all = append(all, store.Renewed{Record: store.Record{Owner: b.Owner}, Err: store.ErrSuperseded})
				case "gone":
					all = append(all, store.Renewed{Err: store.ErrGone})
				case "fails":
					all = append(all, store.Renewed{Err: errors.New("?")})
				case "fine":
					all = append(all, store.Renewed{})
				}
			}
			return all
		}
		h := newHolding(t, s, once.Rerun)
		bodies, leases := map[string]context.Context{}, []*lease{}
		for _, key := range []string{"fine", "another's", "its own end", "gone", "fails"} {
			ctx, l := h.hold(key)
			bodies[key], leases = ctx, append(leases, l)
		}
		pass(53 * time.Second)
		for key, ctx := range bodies {
			require.Equal(t, key == "another's", ctx.Err() != nil, key)
		}
		require.ErrorIs(t, context.Cause(bodies["another's"]), errSuperseded)
		pass(time.Minute)
		for key, ctx := range bodies {
			require.Equal(t, key == "fine", ctx.Err() == nil, key)
		}
		require.Equal(t, 4, h.seen.count(observe.LeaseLost))
		for _, b := range s.batches[1:] {
			require.NotContains(t, b.keys, "another's")
		}
		for _, l := range leases {
			l.end()
		}
		require.Empty(t, h.renewer.leases)
		require.Zero(t, h.renewer.watched)
	})
}

func TestRenewer_WhatABatchDoesNotAnswerIsNotRenewed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &batching{Store: store.NewMemory(store.MemoryOptions{})}
		s.answer = func(context.Context, []store.Bid) []store.Renewed { return nil }
		h := newHolding(t, s, once.Rerun)
		body, l := h.hold("k")
		<-body.Done()
		require.ErrorIs(t, context.Cause(body), errLeaseOver)
		l.end()
	})
}

// What hung, and then goes on, costs no claim. The renewals that would have been due meanwhile
// come soon after it.
func TestRenewer_MakesUpForWhatAHangHasHeldUp(t *testing.T) {
	t.Parallel()
	for _, claims := range []int{1, 4 * maxBatch} {
		synctest.Test(t, func(t *testing.T) {
			s := &batching{Store: store.NewMemory(store.MemoryOptions{})}
			began := time.Now()
			s.answer = func(ctx context.Context, bids []store.Bid) []store.Renewed {
				if time.Since(began) < 25*time.Second {
					<-ctx.Done()
					return slices.Repeat([]store.Renewed{{Err: ctx.Err()}}, len(bids))
				}
				return make([]store.Renewed, len(bids))
			}
			h := newHolding(t, s, once.Rerun)
			bodies, leases := []context.Context{}, []*lease{}
			for n := range claims {
				ctx, l := h.hold(strconv.Itoa(n))
				bodies, leases = append(bodies, ctx), append(leases, l)
			}
			pass(3 * time.Minute)
			for n, ctx := range bodies {
				require.NoError(t, ctx.Err(), n)
			}
			for _, l := range leases {
				l.end()
			}
		})
	}
}

func TestRenewer_AStoreThatDoesNotReturnRenewsNothing(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(){"panics": func() { panic("store") }, "ends the goroutine": runtime.Goexit} {
		for how, batches := range map[string]bool{"one by one": false, "in a batch": true} {
			t.Run(name+" "+how, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					var ends atomic.Bool
					ends.Store(true)
					renew := func() {
						if ends.Load() {
							end()
						}
					}
					var s store.Store = &renewing{Store: store.NewMemory(store.MemoryOptions{}), renew: renew}
					if batches {
						s = &batching{Store: s, answer: func(_ context.Context, bids []store.Bid) []store.Renewed {
							renew()
							return make([]store.Renewed, len(bids))
						}}
					}
					h := newHolding(t, s, once.Rerun)
					body, l := h.hold("k")
					pass(30 * time.Second)
					require.Equal(t, 1, h.seen.count(observe.RenewFailed))
					ends.Store(false)
					pass(time.Minute)
					require.NoError(t, body.Err(), "it was renewed again")
					ends.Store(true)
					<-body.Done()
					require.ErrorIs(t, context.Cause(body), errLeaseOver)
					l.end()
				})
			})
		}
	}
}

// renewing is a store whose renewals do something else.
type renewing struct {
	store.Store
	renew func()
}

func (s *renewing) Renew(_ context.Context, b store.Bid) (store.Record, error) {
	s.renew()
	return store.Record{Owner: b.Owner}, nil
}

// A store that embeds one with batches has a Renew of its own, which must not be passed by.
func TestRenewer_AsksAStoreThatEmbedsOneWithBatchesForEachClaim(t *testing.T) {
	t.Parallel()
	inner := &batching{Store: store.NewMemory(store.MemoryOptions{})}
	renews := 0
	renew := func() { renews++ }
	for name, s := range map[string]store.Store{
		"by pointer":   &struct{ outer }{outer{inner, renew}},
		"at once":      outer{inner, renew},
		"by value":     &outerByValue{batching{Store: inner.Store}, renew},
		"an interface": &outerOfInterface{inner, renew},
	} {
		synctest.Test(t, func(t *testing.T) {
			before := renews
			h := newHolding(t, s, once.Hold)
			_, l := h.hold("k")
			pass(30 * time.Second)
			l.end()
			require.Equal(t, 1, renews-before, name)
		})
	}
	require.Empty(t, inner.batches)
	require.NotNil(t, batchesOf(passesOn{inner}), "it says that it does")
	require.NotNil(t, batchesOf(inner))
}

type outer struct {
	*batching
	renew func()
}

func (s outer) Renew(_ context.Context, b store.Bid) (store.Record, error) {
	s.renew()
	return store.Record{Owner: b.Owner}, nil
}

type outerByValue struct {
	batching
	renew func()
}

func (s *outerByValue) Renew(_ context.Context, b store.Bid) (store.Record, error) {
	s.renew()
	return store.Record{Owner: b.Owner}, nil
}

type renewsInBatches interface {
	store.Store
	store.BatchRenewer
}

type outerOfInterface struct {
	renewsInBatches
	renew func()
}

func (s *outerOfInterface) Renew(_ context.Context, b store.Bid) (store.Record, error) {
	s.renew()
	return store.Record{Owner: b.Owner}, nil
}

// passesOn has batches of its own, although they are those of another store.
type passesOn struct{ store.Store }

func (s passesOn) RenewAll(ctx context.Context, bids []store.Bid) []store.Renewed {
	b, _ := s.Store.(store.BatchRenewer)
	return b.RenewAll(ctx, bids)
}

// Nothing that hangs is left behind.
func TestRenewer_ARenewalEndsWithTheLastOfItsClaims(t *testing.T) {
	t.Parallel()
	for name, batches := range map[string]bool{"one by one": false, "in a batch": true} {
		synctest.Test(t, func(t *testing.T) {
			var s store.Store = &hangsFor{Store: store.NewMemory(store.MemoryOptions{}), key: "k"}
			if batches {
				s = &batching{Store: s, answer: func(ctx context.Context, _ []store.Bid) []store.Renewed {
					<-ctx.Done()
					return nil
				}}
			}
			h := newHolding(t, s, once.Hold)
			_, l1 := h.hold("k")
			_, l2 := h.hold("k")
			pass(20 * time.Second)
			l1.end()
			pass(time.Second)
			require.NotNil(t, l2.round, name)
			l2.end() // or the bubble does not end
			require.Zero(t, h.seen.count(observe.RenewFailed), name)
		})
	}
}

// The machine slept: the timers have not moved on, but the wall clock has.
func TestRenewer_SeesTheWallClockWhereOthersTakeOver(t *testing.T) {
	t.Parallel()
	for policy, within := range map[once.DoubtPolicy]time.Duration{once.Rerun: 3 * time.Second, once.Hold: 20 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			h := newHolding(t, &batching{Store: store.NewMemory(store.MemoryOptions{})}, policy)
			body, l := h.hold("k")
			past := *l.body.alive.Load()
			past.wall = past.wall.Add(-time.Hour)
			l.body.alive.Store(&past)
			began := time.Now()
			<-l.body.Context.Done() // without a look at the clocks
			require.Equal(t, within, time.Since(began))
			require.ErrorIs(t, context.Cause(body), errLeaseOver)
			l.end()
		})
	}
}
