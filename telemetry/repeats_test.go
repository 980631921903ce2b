package telemetry_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

// again makes the call again and again, for that long, and returns how often its
// error was not benign, and how often it was.
func (w *world) again(p path, every, during time.Duration) (failures, benign int) {
	for began := time.Now(); time.Since(began) < during; pass(every) {
		p.call.number++
		w.observe(p, surrounding)
		app := (*temporal.ApplicationError)(nil)
		switch {
		case !errors.As(w.err, &app):
		case app.Category() == temporal.ApplicationErrorCategoryBenign:
			benign++
		default:
			failures++
		}
	}
	return failures, benign
}

// requireReported requires that many lines of each log about what.
func (w *world) requireReported(n int, what, event string) {
	w.t.Helper()
	require.Len(w.t, w.lines.containing("WARN atmostonce: "+what), n)
	if event != "" {
		require.Equal(w.t, slices.Repeat([]string{event}, n), w.events.names())
	}
}

func TestRepeats_OfAKeyThatIsHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, setup{policy: under(once.Hold)}, true)
		doubted(settleDelay)(w)
		failures, benign := w.again(path{call: retry}, holdRetry, 26*time.Hour)
		require.Equal(t, 3, failures, "at once, after an hour, and a day later")
		require.Equal(t, 26*120-3, benign, "which the SDK does not log")
		w.requireReported(3, "in_doubt", inDoubtEvent)
		require.Equal(t, map[string]int64{"failed/in_doubt": 26 * 120}, w.counts(t, "atmostonce.calls", "atmostonce.outcome", "error.type"), "each is counted")

		r, err := w.store.Load(t.Context(), w.key)
		require.NoError(t, err)
		_, err = w.guard.Resolve(t.Context(), r, resolve.AsNotDone(), resolve.Decision{By: "ops", Why: "it is gone"})
		require.NoError(t, err)
		w.claimedBy("run-3").doubt()
		pass(settleDelay)
		failures, _ = w.again(path{call: retry}, holdRetry, time.Minute)
		require.Equal(t, 1, failures, "another doubt about the same key")
		require.Len(t, w.lines.containing("WARN atmostonce: in_doubt"), 4)
	})
}

// The attempt that ran has reported the doubt that its retries then find.
func TestRepeats_OfADoubtOfTheBodys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, setup{policy: under(once.Hold)}, true)
		w.observe(path{call: original, body: returning(once.MaybeDone(errSecret))}, surrounding)
		pass(settleDelay)
		failures, benign := w.again(path{call: retry}, holdRetry, time.Minute)
		require.Equal(t, [2]int{0, 2}, [2]int{failures, benign})
		w.requireReported(1, "in_doubt", inDoubtEvent)
	})
}

// What Temporal does not try again is for the workflow, and is no matter of course.
func TestRepeats_WhatEndsTheCallIsAFailure(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		policy once.Policy
		last   attempt
	}{
		"the policy":          {under(once.Fail), attempt{}},
		"the last attempt":    {under(once.Hold), attempt{last: true}},
		"no time for another": {under(once.Hold), attempt{left: 2 * time.Second}},
		"after the hold":      {under(once.HoldFor(time.Minute)), attempt{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, setup{policy: c.policy}, true)
				doubted(45 * time.Minute)(w)
				w.observe(path{call: retry}, surrounding)
				failures, benign := w.again(path{call: c.last}, holdRetry, holdRetry)
				require.Equal(t, [2]int{1, 0}, [2]int{failures, benign}, "%v", w.err)
				w.requireReported(1, "in_doubt", inDoubtEvent)
			})
		})
	}
}

// Each goes on with each retry for as long as nobody mends it.
func TestRepeats_OfWhatIsRetriedForHours(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]path{
		"store down": {before: down("acquire", errors.New("no route"))},
		"bad record": {before: down("acquire", store.ErrCorrupt)},
		"bad input": {policy: with(func(p *once.Policy) {
			p.Key = keys.FromCall(func(keys.Call) (string, error) { return "", errSecret })
		})},
		"an end that nobody reports": {policy: under(once.Hold), before: func(w *world) {
			w.claim().settle(store.Outcome{State: store.Pending})
			pass(original.timeout() + settleDelay)
		}},
		"in doubt for now": {policy: under(once.Hold), before: func(w *world) {
			o := w.claim()
			w.store.after = func(verb string) { // it is marked anew each time
				if verb == "acquire" {
					_, _ = o.store.Renew(context.Background(), o.bid)
				}
			}
			o.doubt()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, setup{policy: p.policy}, true)
				if p.before != nil {
					p.before(w)
				}
				p.call = retry
				failures, benign := w.again(p, 5*time.Second, 3*time.Hour/2)
				switch name {
				case "bad input": // which is not tried again
					require.Zero(t, benign)
				default:
					require.LessOrEqual(t, failures, 4)
					require.Positive(t, benign)
				}
				require.LessOrEqual(t, len(w.lines.containing("WARN atmostonce: "))+len(w.lines.containing("in doubt for now")), 4)
			})
		})
	}
}

func TestRepeats_OfNotices(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		path   path
		event  string
		notice observe.Notice
	}{
		"another run":         {path{before: settled(succeeding)}, otherRunEvent, observe.OtherRun},
		"the same run":        {path{before: settled(succeeding), call: repeat}, "atmostonce.call.same_run", observe.SameRun},
		"Mode Observe":        {path{policy: perOrder, before: settled(succeeding), change: inMode(once.Observe)}, observedEvent, observe.Observed},
		"one attempt":         {path{call: attempt{last: true}}, "", observe.OneAttempt},
		"a policy without it": {path{policy: with(func(p *once.Policy) { p.Scope = keys.PerRun })}, "", observe.NoHeader},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, setup{policy: c.path.policy, change: c.path.change}, true)
				if c.path.before != nil {
					c.path.before(w)
				}
				for began := time.Now(); time.Since(began) < 3*time.Hour/2; pass(time.Minute) {
					w.observe(c.path, surrounding)
				}
				w.requireReported(2, string(c.notice), c.event)
				require.EqualValues(t, 90, w.counts(t, "atmostonce.notices", "atmostonce.notice")[string(c.notice)], "each is counted")
			})
		})
	}
}

// A notice about an event is another one each time.
func TestRepeats_EventsAreReportedEachTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, setup{}, true)
		p := lost("", func(_ *world, o owner) { o.succeed() }, succeeding, path{})
		for range 3 {
			w.observe(p, surrounding)
			r, err := w.store.Load(t.Context(), w.key)
			require.NoError(t, err)
			_, err = w.guard.Resolve(t.Context(), r, resolve.AsNotDone(), resolve.Decision{By: "ops", Why: "undone", Force: true})
			require.NoError(t, err)
		}
		require.Len(t, w.lines.containing("WARN atmostonce: conflict"), 3)
	})
}

func TestRepeats_OfAStoreThatIsUnsafe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for err, want := range map[error]int{store.ErrUnsafe: 2, store.ErrReplaced: 90} {
			b := newBench(t, setup{store: checked{store.NewMemory(store.MemoryOptions{}), err}})
			b.plain = true
			for n := range 90 {
				require.NoError(t, b.call(done, charge{Order: string(rune('a' + n))}))
				pass(time.Minute)
			}
			require.Len(t, b.lines.containing("WARN atmostonce: store_"), want, "%v", err)
			require.Len(t, b.events.names(), want)
		}
	})
}
