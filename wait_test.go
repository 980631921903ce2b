package atmostonce_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

// told is a store that has its own way to say what changes, and to be asked for a key.
type told struct {
	*watched
	notify  func(key string, changed chan<- struct{}) (stop func())
	acquire func(ctx context.Context, b store.Bid) (store.Record, error)
}

func (s *told) Notify(key string, changed chan<- struct{}) (stop func()) {
	if s.notify == nil {
		return s.watched.Notify(key, changed)
	}
	return s.notify(key, changed)
}

func (s *told) Acquire(ctx context.Context, b store.Bid) (store.Record, error) {
	if s.acquire == nil {
		return s.watched.Acquire(ctx, b)
	}
	return s.acquire(ctx, b)
}

// silent is a store that says nothing.
type silent struct{ store.Store }

// scene is an owner, of a guard of its own, and calls of another guard that wait for it.
type scene struct {
	owner, waits func(context.Context, event) (receipt, error)
	finish       chan error // ends the owner
	ended        time.Time  // when it did; to be read after that
	runs         atomic.Int32
	close        func(t *testing.T)
	operator     *atmostonce.Guard
}

func newScene(t *testing.T, s, waiters store.Store, p once.Policy) *scene {
	t.Helper()
	p = p.Or(byID)
	p.OnDuplicate = once.Wait
	c := &scene{finish: make(chan error)}
	owners, others := newGuardOver(t, s, atmostonce.Options{}), newGuardOver(t, waiters, atmostonce.Options{})
	c.operator = owners
	c.owner = atmostonce.Func(owners, "charge", p, func(context.Context, event) (receipt, error) {
		c.runs.Add(1)
		err := <-c.finish
		c.ended = time.Now()
		return receipt{"the owner's"}, err
	})
	c.waits = atmostonce.Func(others, "charge", p, func(context.Context, event) (receipt, error) {
		c.runs.Add(1)
		return receipt{"a waiter's"}, nil
	})
	require.NoError(t, errors.Join(owners.Err(), others.Err()))
	c.close = func(t *testing.T) {
		t.Helper()
		require.NoError(t, errors.Join(owners.Close(t.Context()), others.Close(t.Context())))
	}
	return c
}

// start has the owner run, and so many calls wait for it. answers has what they got.
func (c *scene) start(t *testing.T, waiters int) (answers chan answer) {
	t.Helper()
	go func() { _, _ = c.owner(t.Context(), event{ID: "7"}) }()
	synctest.Wait()
	answers = make(chan answer, waiters)
	for range waiters {
		go func() {
			r, err := c.waits(t.Context(), event{ID: "7"})
			answers <- answer{r, err, time.Now()}
		}()
	}
	synctest.Wait()
	return answers
}

type answer struct {
	receipt receipt
	err     error
	at      time.Time
}

// requireAtOnce asserts that a call has ended as soon as it could, or, if it had looked just
// before, a little later.
func requireAtOnce(t *testing.T, could, did time.Time) {
	t.Helper()
	require.LessOrEqual(t, did.Sub(could), 5*time.Millisecond)
	require.GreaterOrEqual(t, did.Sub(could), time.Duration(0))
}

func TestWait_EndsAtOnceWithItsOwner(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]struct {
		err    error
		charge string
	}{
		"success": {nil, "the owner's"},
		"failure": {errors.New("no stock"), "a waiter's"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newWatched()
				c := newScene(t, s, s, once.Policy{})
				answers := c.start(t, 20)
				<-time.After(time.Minute)
				c.finish <- end.err
				for range 20 {
					got := <-answers
					require.NoError(t, got.err)
					require.Equal(t, end.charge, got.receipt.Charge)
					requireAtOnce(t, c.ended, got.at)
				}
				c.close(t)
			})
		})
	}
}

func TestWait_EndsAtOnceWithADecision(t *testing.T) {
	t.Parallel()
	for name, decide := range map[string]resolve.Finding{"done": resolve.AsDone(receipt{"by hand"}), "not done": resolve.AsNotDone()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newWatched()
				c := newScene(t, s, s, once.Policy{})
				answers := c.start(t, 3)
				<-time.After(time.Minute + 50*time.Millisecond) // between two renewals
				decided := time.Now()
				for r, err := range s.List(t.Context(), store.Query{}) {
					require.NoError(t, err)
					_, err = c.operator.Resolve(t.Context(), r, decide, resolve.Decision{By: "ann", Why: "test", Force: true})
					require.NoError(t, err)
				}
				for range 3 {
					got := <-answers
					require.NoError(t, got.err)
					require.NotEqual(t, "the owner's", got.receipt.Charge)
					requireAtOnce(t, decided, got.at)
				}
				c.finish <- nil
				c.close(t)
			})
		})
	}
}

// Whatever the store says of changes, the poll finds them, and not much later.
func TestWait_OverANotifierThatCannotBeTrusted(t *testing.T) {
	t.Parallel()
	forever := func(t *testing.T) chan struct{} {
		t.Helper()
		c := make(chan struct{})
		t.Cleanup(func() { close(c) })
		return c
	}
	nothing := func() {}
	for name, notify := range map[string]func(t *testing.T) func(string, chan<- struct{}) func(){
		"never sends": func(*testing.T) func(string, chan<- struct{}) func() {
			return func(string, chan<- struct{}) func() { return nothing }
		},
		"sends before it has registered": func(*testing.T) func(string, chan<- struct{}) func() {
			return func(_ string, changed chan<- struct{}) func() {
				select {
				case changed <- struct{}{}:
				default:
				}
				return nothing
			}
		},
		"sends all the time": func(*testing.T) func(string, chan<- struct{}) func() {
			return func(_ string, changed chan<- struct{}) func() {
				over := make(chan struct{})
				go func() {
					for {
						select {
						case changed <- struct{}{}:
						case <-over:
							return
						}
						select {
						case <-time.After(10 * time.Microsecond):
						case <-over:
							return
						}
					}
				}()
				return sync.OnceFunc(func() { close(over) })
			}
		},
		"blocks": func(t *testing.T) func(string, chan<- struct{}) func() {
			t.Helper()
			free := forever(t)
			return func(string, chan<- struct{}) func() { <-free; return nothing }
		},
		"does not come to an end": func(t *testing.T) func(string, chan<- struct{}) func() {
			t.Helper()
			free := forever(t)
			return func(string, chan<- struct{}) func() { return func() { <-free } }
		},
		"returns nil": func(*testing.T) func(string, chan<- struct{}) func() {
			return func(string, chan<- struct{}) func() { return nil }
		},
		"closes": func(*testing.T) func(string, chan<- struct{}) func() {
			return func(_ string, changed chan<- struct{}) func() { close(changed); return nothing }
		},
		"panics": func(*testing.T) func(string, chan<- struct{}) func() {
			return func(string, chan<- struct{}) func() { panic("notify") }
		},
		"ends its goroutine": func(*testing.T) func(string, chan<- struct{}) func() {
			return func(string, chan<- struct{}) func() { runtime.Goexit(); return nil }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &told{watched: newWatched()}
				s.notify = notify(t)
				c := newScene(t, silent{s}, s, once.Policy{})
				answers := c.start(t, 100)
				before := s.calls.Load()
				<-time.After(10 * time.Second)
				require.LessOrEqual(t, s.calls.Load()-before, int64(10*time.Second/(5*time.Millisecond)+50), "all share their looks")
				c.finish <- nil
				for range 100 {
					got := <-answers
					require.NoError(t, got.err)
					require.Equal(t, "the owner's", got.receipt.Charge)
					require.LessOrEqual(t, got.at.Sub(c.ended), 1500*time.Millisecond)
				}
				c.close(t)
			})
		})
	}
}

// What changes while a call registers is found by the look that follows.
func TestWait_MissesNoChangeBeforeItIsRegistered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &told{watched: newWatched()}
		c := newScene(t, silent{s.watched}, s, once.Policy{})
		s.notify = func(key string, changed chan<- struct{}) func() {
			<-time.After(time.Millisecond) // the call waits by now, and its poll is not due
			c.finish <- nil
			synctest.Wait()
			return s.watched.Notify(key, changed)
		}
		got := <-c.start(t, 1)
		require.NoError(t, got.err)
		require.Equal(t, "the owner's", got.receipt.Charge)
		require.Equal(t, c.ended, got.at)
		c.close(t)
	})
}

// A thousand that wait cost the store what one does.
func TestWait_ManyCostTheStoreWhatOneDoes(t *testing.T) {
	t.Parallel()
	costs := func(t *testing.T, waiters int, ofWaiters func(s store.Store) store.Store) (waiting, ending int64) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			s := newWatched()
			c := newScene(t, silent{s}, ofWaiters(s), once.Policy{})
			answers := c.start(t, waiters)
			before := s.calls.Load()
			<-time.After(time.Minute)
			waiting = s.calls.Load() - before
			c.finish <- nil
			for range waiters {
				require.NoError(t, (<-answers).err)
			}
			ending = s.calls.Load() - before - waiting
			c.close(t)
		})
		return waiting, ending
	}
	for name, of := range map[string]func(s store.Store) store.Store{
		"with notices": func(s store.Store) store.Store { return s },
		"without":      func(s store.Store) store.Store { return silent{s} },
	} {
		waiting, ending := costs(t, 1000, of)
		require.LessOrEqual(t, waiting, int64(2*60+2*20), name)
		require.LessOrEqual(t, ending, int64(10), name)
	}
}

func TestWait_OneThatLeavesTakesNoLookWithIt(t *testing.T) {
	t.Parallel()
	type leave struct{}
	for name, took := range map[string]time.Duration{"at once": 0, "in the middle of a look": time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &told{watched: newWatched()}
				c := newScene(t, silent{s.watched}, s, once.Policy{})
				c.start(t, 0)
				var armed atomic.Bool
				s.acquire = func(ctx context.Context, b store.Bid) (store.Record, error) {
					if left, is := ctx.Value(leave{}).(context.CancelFunc); is && armed.CompareAndSwap(true, false) {
						<-time.After(took)
						left()
						<-ctx.Done()
						return store.Record{}, ctx.Err()
					}
					return s.watched.Acquire(ctx, b)
				}
				const waiters = 5
				answers := make(chan answer, waiters)
				for range waiters {
					go func() {
						ctx, cancel := context.WithCancel(t.Context())
						defer cancel()
						r, err := c.waits(context.WithValue(ctx, leave{}, cancel), event{ID: "7"})
						answers <- answer{r, err, time.Now()}
					}()
				}
				<-time.After(time.Minute)
				armed.Store(true)
				c.finish <- nil
				left := 0
				for range waiters {
					got := <-answers
					requireAtOnce(t, c.ended.Add(took), got.at)
					if got.err != nil {
						require.ErrorIs(t, got.err, context.Canceled)
						left++
						continue
					}
					require.Equal(t, "the owner's", got.receipt.Charge)
				}
				require.Equal(t, 1, left)
				c.close(t)
			})
		})
	}
}

// A store that hangs for one call need not hang for the others.
func TestWait_ForALookThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &told{watched: newWatched()}
		c := newScene(t, silent{s.watched}, s, once.Policy{})
		free := make(chan struct{})
		var first atomic.Bool
		s.acquire = func(ctx context.Context, b store.Bid) (store.Record, error) {
			if first.CompareAndSwap(false, true) {
				<-free // it looks at no context
			}
			return s.watched.Acquire(ctx, b)
		}
		began := time.Now()
		done := make(chan answer, 10)
		for range 10 {
			go func() {
				r, err := c.waits(t.Context(), event{ID: "7"})
				done <- answer{r, err, time.Now()}
			}()
		}
		for range 9 {
			got := <-done
			require.NoError(t, got.err)
			require.Equal(t, 5*time.Second, got.at.Sub(began))
		}
		close(free)
		<-done
		require.EqualValues(t, 1, c.runs.Load())
		c.close(t)
	})
}

// Each call that waits decides for itself, also on what others have seen.
func TestWait_OfAnotherInputIsAMismatchAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newWatched()
		g := newGuardOver(t, s, atmostonce.Options{})
		finish := make(chan struct{})
		charge := atmostonce.Func(g, "charge", once.Policy{Key: byID.Key, OnDuplicate: once.Wait}, func(context.Context, event) (receipt, error) {
			<-finish
			return receipt{"ch"}, nil
		})
		good := make(chan error, 2)
		for range 2 {
			go func() { _, err := charge(t.Context(), event{ID: "7"}); good <- err }()
		}
		synctest.Wait()
		began := time.Now()
		_, err := charge(t.Context(), event{ID: "7", Note: "another"})
		requireRefusal(t, err, once.Mismatch)
		require.Zero(t, time.Since(began))
		close(finish)
		require.NoError(t, <-good)
		require.NoError(t, <-good)
		require.NoError(t, g.Close(t.Context()))
	})
}

// A call of the same process says itself when it ends: those that wait for it need no store.
func TestWait_ForACallOfTheSameProcessOverAStoreThatIsDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newWatched()
		g := newGuardOver(t, silent{s}, atmostonce.Options{})
		finish := make(chan struct{})
		charge := atmostonce.Func(g, "charge", under(func(p *once.Policy) { p.OnDuplicate = once.Wait }), func(context.Context, event) (receipt, error) {
			<-finish
			return receipt{"ch"}, nil
		})
		answers := make(chan error, 5)
		for range 5 {
			go func() { _, err := charge(t.Context(), event{ID: "7"}); answers <- err }()
		}
		synctest.Wait()
		gone := errors.New("the disk is gone")
		s.down.Store(&gone)
		<-time.After(time.Minute)
		ended := time.Now()
		close(finish)
		for range 5 {
			require.NoError(t, <-answers)
		}
		require.Equal(t, ended, time.Now())
		require.NoError(t, g.Close(t.Context()))
	})
}

// Also where it has left nothing to replay.
func TestWait_EndsAtOnceWithACallOfTheSameProcess(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func() error{
		"that fails":              func() error { return errors.New("no stock") },
		"that ends its goroutine": func() error { runtime.Goexit(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newGuardOver(t, silent{newWatched()}, atmostonce.Options{})
				var runs atomic.Int32
				finish := make(chan struct{})
				charge := atmostonce.Func(g, "charge", under(func(p *once.Policy) { p.OnDuplicate, p.InDoubt = once.Wait, once.Rerun }), func(context.Context, event) (receipt, error) {
					if runs.Add(1) == 1 {
						<-finish
						return receipt{}, end()
					}
					return receipt{"ch"}, nil
				})
				go func() { _, _ = charge(t.Context(), event{ID: "7"}) }()
				synctest.Wait()
				answers := make(chan error, 5)
				for range 5 {
					go func() { _, err := charge(t.Context(), event{ID: "7"}); answers <- err }()
				}
				<-time.After(time.Minute)
				ended := time.Now()
				close(finish)
				for range 5 {
					require.NoError(t, <-answers)
				}
				delay := time.Duration(0)
				if name != "that fails" {
					delay = 30 * time.Second // until a doubt is settled
				}
				require.Equal(t, ended.Add(delay), time.Now())
				require.EqualValues(t, 2, runs.Load())
				require.NoError(t, g.Close(t.Context()))
			})
		})
	}
}

// Of those that wait for a doubt one asks. If that comes to nothing, each does.
func TestWait_OneAsksWhatHappened(t *testing.T) {
	t.Parallel()
	const waiters = 20
	for name, found := range map[string]struct {
		find       func(n int32) error
		asks, good int
	}{
		"it did":         {func(int32) error { return nil }, 1, waiters},
		"it did not":     {func(int32) error { return once.ErrNotDone }, 1, waiters},
		"nobody can say": {func(int32) error { return errors.New("the bank is closed") }, waiters, 0},
		"who asks does not come back": {func(n int32) error {
			if n == 1 {
				runtime.Goexit()
			}
			return nil
		}, waiters, waiters - 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newWatched()
				var asks atomic.Int32
				c := newScene(t, s, s, once.Policy{InDoubt: once.Reconcile(func(context.Context, event) (receipt, error) {
					n := asks.Add(1)
					<-time.After(10 * time.Second)
					return receipt{"found"}, found.find(n)
				})})
				answers := c.start(t, waiters)
				c.finish <- once.MaybeDone(errors.New("no answer"))
				<-time.After(30*time.Second + 2*10*time.Second + time.Second)
				require.EqualValues(t, found.asks, asks.Load())
				good := 0
				for range len(answers) {
					if got := <-answers; got.err == nil {
						good++
					}
				}
				require.Equal(t, found.good, good)
				c.close(t)
			})
		})
	}
}

// moving is a store whose records move whenever they are to be taken over.
type moving struct {
	*watched
	takeovers atomic.Int32
}

func (s *moving) Takeover(ctx context.Context, b store.Bid, from store.Record) (store.Record, error) {
	if s.takeovers.Add(1) < 10_000 {
		return from, store.ErrMoved
	}
	return s.watched.Takeover(ctx, b, from)
}

// Who was too slow to take over looks again, but not all the time.
func TestWait_TakesItsTimeWithARecordThatMoves(t *testing.T) {
	t.Parallel()
	for _, waiters := range []int32{1, 20} {
		synctest.Test(t, func(t *testing.T) {
			s := &moving{watched: newWatched()}
			c := newScene(t, s, s, once.Policy{InDoubt: once.Rerun})
			answers := c.start(t, int(waiters))
			c.finish <- once.MaybeDone(errors.New("no answer"))
			<-time.After(30*time.Second + time.Minute)
			require.Less(t, s.takeovers.Load(), 100+60*waiters, "each about once a second")
			require.Greater(t, s.takeovers.Load(), int32(30))
			s.takeovers.Store(10_000)
			for range waiters {
				require.NoError(t, (<-answers).err)
			}
			require.EqualValues(t, 2, c.runs.Load())
			c.close(t)
		})
	}
}

// What the others do follows from what the first call has left, as if its context had not ended.
func TestWait_AfterAFirstCallWhoseContextEnded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end    func(ctx context.Context) error
		delay  time.Duration // of the others
		charge string
	}{
		"with its error":        {func(ctx context.Context) error { return ctx.Err() }, 30 * time.Second, "another's"},
		"before an effect":      {func(ctx context.Context) error { return once.NotDone(ctx.Err()) }, 0, "another's"},
		"and it went on anyway": {func(context.Context) error { return nil }, 0, "the first's"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newGuardOver(t, silent{newWatched()}, atmostonce.Options{})
				var runs atomic.Int32
				charge := atmostonce.Func(g, "charge", under(func(p *once.Policy) { p.OnDuplicate, p.InDoubt = once.Wait, once.Rerun }), func(ctx context.Context, _ event) (receipt, error) {
					if runs.Add(1) > 1 {
						return receipt{"another's"}, nil
					}
					<-ctx.Done()
					return receipt{"the first's"}, c.end(ctx)
				})
				ctx, cancel := context.WithCancel(t.Context())
				first := make(chan error)
				go func() { _, err := charge(ctx, event{ID: "7"}); first <- err }()
				synctest.Wait()
				answers := make(chan answer, 5)
				for range 5 {
					go func() {
						r, err := charge(t.Context(), event{ID: "7"})
						answers <- answer{r, err, time.Now()}
					}()
				}
				<-time.After(time.Minute)
				ended := time.Now()
				cancel()
				require.Equal(t, c.charge == "another's", <-first != nil)
				for range 5 {
					got := <-answers
					require.NoError(t, got.err)
					require.Equal(t, c.charge, got.receipt.Charge)
					require.Equal(t, ended.Add(c.delay), got.at)
				}
				require.NoError(t, g.Close(t.Context()))
			})
		})
	}
}

// One that waited first, and has given up, takes nobody with it.
func TestWait_AfterAFirstWaiterWhoseContextEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newWatched()
		c := newScene(t, silent{s}, silent{s}, once.Policy{})
		c.start(t, 0)
		ctx, cancel := context.WithCancel(t.Context())
		first := make(chan error)
		go func() { _, err := c.waits(ctx, event{ID: "7"}); first <- err }()
		synctest.Wait()
		answers := make(chan answer, 5)
		for range 5 {
			go func() {
				r, err := c.waits(t.Context(), event{ID: "7"})
				answers <- answer{r, err, time.Now()}
			}()
		}
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-first, context.Canceled)
		synctest.Wait()
		require.Empty(t, answers)
		c.finish <- nil
		for range 5 {
			got := <-answers
			require.NoError(t, got.err)
			require.Equal(t, "the owner's", got.receipt.Charge)
		}
		c.close(t)
	})
}
