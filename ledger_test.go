package atmostonce_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/internal/effect"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

func decidedBy(b *books) once.Policy {
	return under(func(p *once.Policy) { p.InDoubt = once.DecidedBy(b) })
}

var seven = event{ID: "7"}

// An owner that is cut off from the store after its effect, or before it: the ledger
// knows, and there is nothing to wait for but the lease.
func TestLedger_DecidesWhatACrashLeft(t *testing.T) {
	t.Parallel()
	for _, duplicate := range []once.DuplicatePolicy{once.Return, once.Wait, once.Reject} {
		for _, failure := range []once.FailurePolicy{once.Unlock, once.Lock, once.Doubt} {
			for _, committed := range []bool{true, false} {
				t.Run(fmt.Sprint(duplicate, "/", failure, "/committed ", committed), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						b, memory := newBooks("shop"), store.NewMemory(store.MemoryOptions{})
						policy := decidedBy(b)
						policy.OnDuplicate, policy.OnFailure = duplicate, failure
						crashed := &cutOff{Store: memory}
						crashed.from.Store(true)
						wakes := make(chan struct{})
						zombie := atmostonce.Func(newGuardOver(t, crashed, atmostonce.Options{}), "charge", policy, func(ctx context.Context, _ event) (out receipt, err error) {
							if committed {
								err = b.silently(ctx, receipt{"zombie"})
							}
							<-wakes
							if !committed {
								out, err = b.charge(ctx, receipt{"zombie"})
							}
							return out, err
						})
						ended := make(chan error)
						go func() { _, err := zombie(t.Context(), seven); ended <- err }()
						synctest.Wait()
						<-time.After(time.Minute) // the lease

						charge := atmostonce.Func(newGuardOver(t, memory, atmostonce.Options{}), "charge", policy, func(ctx context.Context, _ event) (receipt, error) {
							crashed.from.Store(false)
							close(wakes)
							if err := <-ended; err == nil || !strings.Contains(err.Error(), errBarred.Error()) {
								return receipt{}, fmt.Errorf("the zombie may commit: %w", err)
							}
							return b.charge(ctx, receipt{"second"})
						})
						began := time.Now()
						out, err := charge(t.Context(), seven)
						require.Less(t, time.Since(began), time.Second, "it waits for no settle delay")
						want := map[bool]string{true: "zombie", false: "second"}[committed]
						if committed {
							crashed.from.Store(false)
							close(wakes)
							require.NoError(t, <-ended)
						}
						if committed && duplicate == once.Reject {
							requireRefusal(t, err, once.Duplicate)
						} else {
							require.NoError(t, err)
							require.Equal(t, receipt{want}, out)
						}
						r := recordsIn(t, memory)[0]
						require.Equal(t, store.Succeeded, r.State)
						require.True(t, r.Outcome.InLedger)
						if committed {
							require.Equal(t, store.ByReconcile, r.By)
						} else {
							require.Equal(t, store.Clean, r.Origin)
						}

						<-time.After(time.Hour)
						require.Equal(t, 1, b.done())
						if duplicate != once.Reject {
							out, err = charge(t.Context(), seven)
							require.NoError(t, err)
							require.Equal(t, receipt{want}, out)
						}
						require.Equal(t, 1, b.done())
					})
				})
			}
		}
	}
}

func TestLedger_TheCommittedOutcomeIsTheAnswer(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]func() (receipt, error){
		"its result":          func() (receipt, error) { return receipt{"first"}, nil },
		"another result":      func() (receipt, error) { return receipt{"other"}, nil },
		"an error":            func() (receipt, error) { return receipt{}, errDeclined },
		"an ambiguous error":  func() (receipt, error) { return receipt{}, io.ErrUnexpectedEOF },
		"NotDone":             func() (receipt, error) { return receipt{}, once.NotDone(errDeclined) },
		"MaybeDone":           func() (receipt, error) { return receipt{}, once.MaybeDone(errDeclined) },
		"a panic":             func() (receipt, error) { panic("at the disco") },
		"a nil dereference":   func() (receipt, error) { var none *receipt; return *none, nil },
		"an end of goroutine": func() (receipt, error) { runtime.Goexit(); return receipt{}, nil },
	} {
		for _, failure := range []once.FailurePolicy{once.Unlock, once.Lock, once.Doubt} {
			for _, decides := range []bool{true, false} {
				t.Run(fmt.Sprint(name, "/", failure, "/", decides), func(t *testing.T) {
					t.Parallel()
					b, memory, heard := newBooks("shop"), store.NewMemory(store.MemoryOptions{}), &listener{}
					policy := decidedBy(b)
					policy.OnFailure = failure
					if !decides { // who writes a ledger may have another policy
						policy.InDoubt = once.Hold
					}
					charge := atmostonce.Func(newGuardOver(t, memory, atmostonce.Options{Observers: []observe.Observer{heard}}), "charge", policy, func(ctx context.Context, _ event) (receipt, error) {
						if _, err := b.charge(ctx, receipt{"first"}); err != nil {
							return receipt{}, err
						}
						return after()
					})
					for i := range 2 {
						done := make(chan error, 1)
						var out receipt
						go func() {
							err := errors.New("no answer")
							defer func() { done <- err }()
							out, err = charge(t.Context(), seven)
						}()
						err := <-done
						if name == "an end of goroutine" && i == 0 {
							continue
						}
						require.NoError(t, err)
						require.Equal(t, receipt{"first"}, out)
					}
					require.Equal(t, 1, b.done())
					r := recordsIn(t, memory)[0]
					require.Equal(t, store.Succeeded, r.State)
					require.Equal(t, decides, r.Outcome.InLedger)
					require.Equal(t, name != "its result" && name != "another result", heard.has(observe.Overruled))
				})
			}
		}
	}
}

func TestLedger_TheCommittedOutcomeOutlastsTheCallersContext(t *testing.T) {
	t.Parallel()
	b := newBooks("shop")
	ctx, cancel := context.WithCancel(t.Context())
	charge := atmostonce.Func(newGuard(t, atmostonce.Options{}), "charge", decidedBy(b), func(ctx context.Context, _ event) (receipt, error) {
		_, err := b.charge(ctx, receipt{"first"})
		cancel()
		return receipt{}, errors.Join(err, ctx.Err())
	})
	out, err := charge(ctx, seven)
	require.NoError(t, err)
	require.Equal(t, receipt{"first"}, out)
}

// A body of a transaction of its own does not say that it has committed. The ledger does.
func TestLedger_IsAskedAboutABodyThatSaysNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		commits bool
		err     error
		want    string // part of the error
	}{
		"a result":                  {true, nil, ""},
		"an error after the commit": {true, errDeclined, ""},
		"a doubt after the commit":  {true, io.ErrUnexpectedEOF, ""},
		"a result without a commit": {false, nil, "commit the transaction"},
		"an error without a commit": {false, io.ErrUnexpectedEOF, io.ErrUnexpectedEOF.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, memory := newBooks("shop"), store.NewMemory(store.MemoryOptions{})
			charge := atmostonce.Func(newGuardOver(t, memory, atmostonce.Options{}), "charge", decidedBy(b), func(ctx context.Context, _ event) (receipt, error) {
				if c.commits {
					return receipt{"first"}, errors.Join(b.silently(ctx, receipt{"first"}), c.err)
				}
				call, _ := effect.FromContext(ctx)
				_, err := call.Encode(ctx, receipt{"first"})
				return receipt{"first"}, errors.Join(err, c.err)
			})
			out, err := charge(t.Context(), seven)
			r := recordsIn(t, memory)[0]
			if c.want != "" {
				require.ErrorContains(t, err, c.want)
				e := (*atmostonce.Error)(nil)
				require.NotErrorAs(t, err, &e, "it is certain that nothing happened")
				require.Equal(t, store.Tombstone, r.State)
				return
			}
			require.NoError(t, err)
			require.Equal(t, receipt{"first"}, out)
			require.Equal(t, store.Succeeded, r.State)
			require.True(t, r.Outcome.InLedger)
		})
	}
}

// A body that has written nothing costs no question, and its result is its own.
func TestLedger_IsNotAskedAboutABodyThatWroteNothing(t *testing.T) {
	t.Parallel()
	b, memory, fails := newBooks("shop"), store.NewMemory(store.MemoryOptions{}), errDeclined
	charge := atmostonce.Func(newGuardOver(t, memory, atmostonce.Options{}), "charge", decidedBy(b), func(context.Context, event) (receipt, error) {
		return receipt{"nothing to do"}, fails
	})
	_, err := charge(t.Context(), seven)
	require.ErrorIs(t, err, errDeclined)
	fails = nil
	for range 2 {
		out, err := charge(t.Context(), seven)
		require.NoError(t, err)
		require.Equal(t, receipt{"nothing to do"}, out)
	}
	require.Empty(t, b.asked)
	require.Zero(t, b.confirms.Load(), "the ledger has nothing of it to confirm")
}

func TestLedger_HasOneEffectOfACall(t *testing.T) {
	t.Parallel()
	b := newBooks("shop")
	var second, late error
	var call *effect.Call
	charge := atmostonce.Func(newGuard(t, atmostonce.Options{}), "charge", decidedBy(b), func(ctx context.Context, _ event) (receipt, error) {
		call, _ = effect.FromContext(ctx)
		out, err := b.charge(ctx, receipt{"first"})
		_, second = b.charge(ctx, receipt{"second"})
		return out, err
	})
	out, err := charge(t.Context(), seven)
	require.NoError(t, err)
	require.Equal(t, receipt{"first"}, out)
	require.ErrorContains(t, second, "atmostonce.Step")
	_, late = call.Encode(t.Context(), receipt{"late"})
	require.ErrorContains(t, late, "has ended")
	require.ErrorContains(t, call.Committed(effect.Outcome{}), "has ended")
	require.Equal(t, 1, b.done())
}

// inDoubtBy returns a call of the policy whose key is in doubt after a run under the
// policy of before.
func inDoubtBy(t *testing.T, memory store.Store, b *books, before, now once.Policy) func(context.Context, event) (receipt, error) {
	t.Helper()
	dies := atmostonce.Func(newGuardOver(t, memory, atmostonce.Options{}), "charge", before, func(context.Context, event) (receipt, error) {
		return receipt{}, once.MaybeDone(io.ErrUnexpectedEOF)
	})
	_, err := dies(t.Context(), seven)
	requireRefusal(t, err, once.InDoubt)
	return atmostonce.Func(newGuardOver(t, memory, atmostonce.Options{}), "charge", now, func(ctx context.Context, _ event) (receipt, error) {
		return b.charge(ctx, receipt{"second"})
	})
}

func TestLedger_OfAnotherRunHolds(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]once.Policy{"another": decidedBy(newBooks("bank")), "none": byID} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBooks("shop")
				charge := inDoubtBy(t, store.NewMemory(store.MemoryOptions{}), b, before, decidedBy(b))
				<-time.After(time.Hour)
				_, err := charge(t.Context(), seven)
				e := refusalOf(t, err, once.InDoubt)
				require.Positive(t, e.RetryAfter)
				require.ErrorContains(t, err, "the policy by the ledger shop")
				require.ErrorContains(t, err, map[string]string{"another": "the ledger bank", "none": "no ledger"}[name])
				require.ErrorContains(t, err, "Waiting does not clear it")
				require.ErrorContains(t, err, io.ErrUnexpectedEOF.Error(), "what had come first is still said")
				require.Empty(t, b.asked)
				require.Zero(t, b.done())
			})
		})
	}
}

func TestLedger_ThatIsDownHoldsUntilItAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBooks("shop")
		charge := inDoubtBy(t, store.NewMemory(store.MemoryOptions{}), b, decidedBy(b), decidedBy(b))
		b.down.Store(&errBooks)
		_, err := charge(t.Context(), seven)
		require.Positive(t, refusalOf(t, err, once.InDoubt).RetryAfter)
		require.ErrorIs(t, err, errBooks)
		require.Zero(t, b.done())
		b.down.Store(nil)
		out, err := charge(t.Context(), seven)
		require.NoError(t, err)
		require.Equal(t, receipt{"second"}, out)
		require.Equal(t, 1, b.done())
	})
}

func TestLedger_ThatDoesNotAnswerEndsWithTheCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBooks("shop")
		charge := inDoubtBy(t, store.NewMemory(store.MemoryOptions{}), b, decidedBy(b), decidedBy(b))
		b.hangs.Store(true)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		_, err := charge(ctx, seven)
		require.ErrorIs(t, err, once.InDoubt)
		require.LessOrEqual(t, time.Since(began), 5*time.Second)
		require.Zero(t, b.done())
	})
}

// A ledger that is away when a body ends leaves the key in doubt, and decides later.
func TestLedger_ThatIsDownAtTheEndOfABodyLeavesADoubt(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]error{"a result": nil, "an error": errDeclined} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBooks("shop")
			charge := atmostonce.Func(newGuard(t, atmostonce.Options{}), "charge", decidedBy(b), func(ctx context.Context, _ event) (receipt, error) {
				err := b.silently(ctx, receipt{"first"})
				b.down.Store(&errBooks)
				return receipt{"first"}, errors.Join(err, fails)
			})
			_, err := charge(t.Context(), seven)
			require.ErrorIs(t, err, errBooks)
			if fails != nil {
				require.ErrorIs(t, err, fails)
			}
			require.Equal(t, time.Second, refusalOf(t, err, once.InDoubt).RetryAfter)
			b.down.Store(nil)
			out, err := charge(t.Context(), seven)
			require.NoError(t, err)
			require.Equal(t, receipt{"first"}, out)
			require.Equal(t, 1, b.done())
		})
	}
}

func TestLedger_ConfirmsWhatIsReplayed(t *testing.T) {
	t.Parallel()
	for _, duplicate := range []once.DuplicatePolicy{once.Return, once.Wait} {
		t.Run(duplicate.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, memory := newBooks("shop"), store.NewMemory(store.MemoryOptions{})
				policy := decidedBy(b)
				policy.OnDuplicate = duplicate
				g := newGuardOver(t, memory, atmostonce.Options{})
				n := 0
				charge := atmostonce.Func(g, "charge", policy, func(ctx context.Context, _ event) (receipt, error) {
					n++
					return b.charge(ctx, receipt{fmt.Sprint("run ", n)})
				})
				replays := func(want string) {
					t.Helper()
					out, err := charge(t.Context(), seven)
					require.NoError(t, err)
					require.Equal(t, receipt{want}, out)
				}
				replays("run 1")
				require.Zero(t, b.confirms.Load(), "a first run is confirmed by itself")
				replays("run 1")
				require.EqualValues(t, 1, b.confirms.Load())

				b.down.Store(&errBooks)
				_, err := charge(t.Context(), seven)
				require.Positive(t, refusalOf(t, err, once.StoreDown).RetryAfter)
				require.ErrorIs(t, err, errBooks)
				b.down.Store(nil)
				replays("run 1")

				b.restore()
				_, err = charge(t.Context(), seven)
				require.Positive(t, refusalOf(t, err, once.BadRecord).RetryAfter)
				require.ErrorIs(t, err, effect.ErrMissing)
				require.ErrorContains(t, err, "restored to an earlier time")
				require.True(t, refusalOf(t, err, once.BadRecord).MayHaveHappened())
				require.Equal(t, 1, b.done())

				// An operator who says that it took place is not asked for a proof, nor are calls
				// of another policy.
				<-time.After(time.Hour)
				_, err = g.Resolve(t.Context(), recordsIn(t, memory)[0], resolve.AsDone(receipt{"found"}), ann)
				require.NoError(t, err)
				replays("found")
				_, err = g.Resolve(t.Context(), recordsIn(t, memory)[0], resolve.AsNotDone(), ann)
				require.NoError(t, err)
				replays("run 2")
				require.Equal(t, 2, b.done())
				b.restore()
				asked := b.confirms.Load()
				plain := atmostonce.Func(newGuardOver(t, memory, atmostonce.Options{}), "charge", byID, echo)
				out, err := plain(t.Context(), seven)
				require.NoError(t, err)
				require.Equal(t, receipt{"run 2"}, out)
				require.Equal(t, asked, b.confirms.Load())
			})
		})
	}
}

func TestLedger_HasAnEffectOfEachGeneration(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, memory := newBooks("shop"), store.NewMemory(store.MemoryOptions{})
		g, n := newGuardOver(t, memory, atmostonce.Options{}), 0
		charge := atmostonce.Func(g, "charge", decidedBy(b), func(ctx context.Context, _ event) (receipt, error) {
			n++
			if n%2 == 1 { // a crash before each
				return receipt{}, once.MaybeDone(errDeclined)
			}
			return b.charge(ctx, receipt{fmt.Sprint("run ", n)})
		})
		for generation := range uint64(3) {
			_, err := charge(t.Context(), seven)
			requireRefusal(t, err, once.InDoubt)
			for range 2 {
				out, err := charge(t.Context(), seven)
				require.NoError(t, err)
				require.Equal(t, receipt{fmt.Sprint("run ", n)}, out)
			}
			r := recordsIn(t, memory)[0]
			require.Equal(t, generation, r.Generation)
			require.Equal(t, generation, b.asked[generation].Generation)
			require.Len(t, b.entries, int(generation)+1)
			<-time.After(time.Hour)
			_, err = g.Resolve(t.Context(), r, resolve.AsNotDone(), ann)
			require.NoError(t, err)
		}
		require.Equal(t, 3, b.done())
	})
}

type stepReceipt receipt

func TestLedger_DecidesAboutSteps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, memory, broken := newBooks("shop"), store.NewMemory(store.MemoryOptions{}), true
		var calls []*effect.Call
		order := atmostonce.Func(newGuardOver(t, memory, atmostonce.Options{}), "order", under(func(p *once.Policy) { p.InDoubt = once.Rerun }), func(ctx context.Context, _ event) (out receipt, err error) {
			outer, _ := effect.FromContext(ctx)
			calls = append(calls, outer)
			for _, name := range []string{"reserve", "charge"} {
				of, err := atmostonce.Step(ctx, name, func(ctx context.Context) (stepReceipt, error) {
					inner, _ := effect.FromContext(ctx)
					calls = append(calls, inner)
					if name == "charge" && broken {
						return stepReceipt{}, errors.Join(b.silently(ctx, receipt{name}), b.fail())
					}
					out, err := b.charge(ctx, receipt{name})
					return stepReceipt(out), err
				}, once.Policy{InDoubt: once.DecidedBy(b)})
				if out = receipt(of); err != nil {
					return out, err
				}
			}
			return out, nil
		})
		_, err := order(t.Context(), seven)
		requireRefusal(t, err, once.InDoubt)
		broken = false
		b.down.Store(nil)
		<-time.After(time.Minute) // the settle delay, of the order
		out, err := order(t.Context(), seven)
		require.NoError(t, err)
		require.Equal(t, receipt{"charge"}, out)
		require.Equal(t, 2, b.done())
		require.NotEqual(t, calls[0].Key, calls[1].Key)
		require.NotEqual(t, calls[1].Key, calls[2].Key)
		require.Equal(t, reflect.TypeFor[receipt](), calls[0].Out)
		require.Equal(t, reflect.TypeFor[stepReceipt](), calls[1].Out)
		require.Equal(t, []string{"", "shop", "shop"}, []string{calls[0].Ledger, calls[1].Ledger, calls[2].Ledger})
	})
}

// fail has the ledger fail from now on.
func (b *books) fail() error {
	b.down.Store(&errBooks)
	return nil
}

// What runs without a claim, or only for show, writes nothing down.
func TestLedger_IsLeftAloneByWhatIsNotGuarded(t *testing.T) {
	t.Parallel()
	skip := under(func(p *once.Policy) {
		p.Key = keys.FromCall(func(keys.Call) (string, error) { return "", keys.ErrSkip })
	})
	for name, c := range map[string]struct {
		mode   once.Mode
		policy once.Policy
	}{"off": {once.Off, byID}, "observe": {once.Observe, byID}, "no key": {once.Enforce, skip}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, memory := newBooks("shop"), store.NewMemory(store.MemoryOptions{})
			c.policy.InDoubt = once.DecidedBy(b)
			charge := atmostonce.Func(newGuardOver(t, memory, atmostonce.Options{Mode: func(string) once.Mode { return c.mode }}), "charge", c.policy,
				func(ctx context.Context, in event) (receipt, error) {
					out, err := b.charge(ctx, receipt{in.Note})
					_, step := atmostonce.Step(ctx, "step", func(ctx context.Context) (receipt, error) { return b.charge(ctx, receipt{"step"}) },
						once.Policy{InDoubt: once.DecidedBy(b)})
					return out, errors.Join(err, step)
				})
			for _, note := range []string{"1", "2"} {
				out, err := charge(t.Context(), event{ID: "7", Note: note})
				require.NoError(t, err)
				require.Equal(t, receipt{note}, out)
			}
			require.Equal(t, 4, b.done())
			require.Empty(t, b.entries)
			for _, r := range recordsIn(t, memory) {
				require.Empty(t, r.Info.Ledger, "nobody is to confirm it")
				require.False(t, r.Outcome.InLedger)
			}
		})
	}
}

func TestDecidedBy_NeedsALedger(t *testing.T) {
	t.Parallel()
	for _, policy := range []once.DoubtPolicy{once.DecidedBy(nil), once.DecidedBy(newBooks(""))} {
		charge := atmostonce.Func(newGuard(t, atmostonce.Options{}), "charge", under(func(p *once.Policy) { p.InDoubt = policy }), echo)
		_, err := charge(t.Context(), seven)
		requireRefusal(t, err, once.BadSetup)
		require.ErrorContains(t, err, "DecidedBy needs a ledger")
	}
	b := newBooks("shop")
	one, other := once.DecidedBy(b), once.DecidedBy(b)
	require.True(t, same(one, other))
	one = once.DecidedBy(unequal{b, nil})
	other = one
	require.True(t, same(one, other), "it does not panic")
}

func same(a, b once.DoubtPolicy) bool { return a == b }

type unequal struct {
	*books
	_ []int
}
