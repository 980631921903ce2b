package engine

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/internal/effect"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

const (
	testDelay = 30 * time.Second
	testHold  = 5 * time.Second // between two looks at what is held
	unlimited = -1
)

// now is the store's clock in these tests.
var now = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

func inState(state store.State) store.Record {
	return store.Record{State: state, Owner: "owner", Now: now, Info: store.Info{Match: "same"}}
}

func runningFor(lease time.Duration) store.Record {
	r := inState(store.Running)
	r.LeaseEnd = now.Add(lease)
	return r
}

func inDoubtSince(age time.Duration) store.Record {
	r := inState(store.InDoubt)
	r.Doubted = now.Add(-age)
	return r
}

// pendingPast is started elsewhere, its attempt's deadline so long ago.
func pendingPast(age time.Duration) store.Record {
	r := inState(store.Pending)
	r.Deadline = now.Add(-age)
	return r
}

// meets is another call that meets r early in an attempt, others following.
func meets(r store.Record, change ...func(*situation)) situation {
	s := situation{
		policy: once.Policy{OnDuplicate: once.Return, InDoubt: once.Hold}, record: r, nonce: "mine", match: "same",
		settleDelay: testDelay, holdRetry: testHold, timeLeft: time.Minute, scheduleLeft: unlimited,
	}
	for _, c := range change {
		c(&s)
	}
	return s
}

func retry(s *situation)    { s.retry, s.sameCall = true, true }
func reset(s *situation)    { s.sameCall = true }
func local(s *situation)    { s.local = true }
func last(s *situation)     { s.last = true }
func late(s *situation)     { s.late = true }
func stopping(s *situation) { s.stopping = true }
func alone(s *situation)    { s.alone = true }
func other(s *situation)    { s.match = "other" }

func on(d once.DuplicatePolicy) func(*situation) {
	return func(s *situation) { s.policy.OnDuplicate = d }
}

func under(d once.DoubtPolicy) func(*situation) {
	return func(s *situation) { s.policy.InDoubt = d }
}

func timeLeft(d time.Duration) func(*situation)     { return func(s *situation) { s.timeLeft = d } }
func scheduleLeft(d time.Duration) func(*situation) { return func(s *situation) { s.scheduleLeft = d } }

// later is a refusal that Temporal comes back from.
func later(reason once.Reason, delay time.Duration) decision {
	return decision{do: refuse, reason: reason, retryable: true, delay: delay}
}

// undecided is a refusal in doubt that comes before the policy has decided.
func undecided(delay time.Duration) decision {
	d := later(once.InDoubt, delay)
	d.settling = true
	return d
}

func never(reason once.Reason) decision  { return decision{do: refuse, reason: reason} }
func wait(atMost time.Duration) decision { return decision{do: await, delay: atMost} }

// check decides what each cell describes.
func check(t *testing.T, cells ...cell) {
	t.Helper()
	for _, c := range cells {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, decide(c.when))
		})
	}
}

type cell struct {
	name string
	when situation
	want decision
}

func TestDecide_ClaimMeetsRecord(t *testing.T) {
	t.Parallel()
	mine := runningFor(time.Minute)
	mine.Owner = "mine"
	spent := inState(store.Succeeded)
	spent.Owner = "mine"
	for _, d := range []once.DuplicatePolicy{once.Return, once.Wait, once.Reject} {
		check(t,
			cell{d.String() + " runs what it was granted", meets(mine, on(d)), decision{do: run}},
			cell{d.String() + " runs what it was granted, whatever the match", meets(mine, on(d), other), decision{do: run}},
			cell{d.String() + " never runs what its own nonce has settled", meets(spent, on(d), retry), decision{do: replay}},
			cell{d.String() + " comes back for a free key that it was not granted", meets(inState(store.Absent), on(d)), later(once.InFlight, minRetry)},
			cell{d.String() + " comes back for a tombstone that it was not granted", meets(inState(store.Tombstone), on(d)), later(once.InFlight, minRetry)},
		)
	}
	duplicate := never(once.Duplicate)
	inFlight := later(once.InFlight, 7*time.Second)
	running := runningFor(7 * time.Second)
	for _, state := range []store.State{store.Succeeded, store.Failed} {
		check(t,
			cell{"Return replays to another call what has " + string(state), meets(inState(state)), decision{do: replay}},
			cell{"Return replays to a retry what has " + string(state), meets(inState(state), retry), decision{do: replay}},
			cell{"Wait replays to another call what has " + string(state), meets(inState(state), on(once.Wait)), decision{do: replay}},
			cell{"Wait replays to a retry what has " + string(state), meets(inState(state), on(once.Wait), retry), decision{do: replay}},
			cell{"Return replays to a reset of the call what has " + string(state), meets(inState(state), reset), decision{do: replay}},
			cell{"Reject replays to a reset of the call what has " + string(state), meets(inState(state), on(once.Reject), reset), decision{do: replay}},
			cell{"Reject refuses another call what has " + string(state), meets(inState(state), on(once.Reject)), duplicate},
			cell{"Reject replays to a retry what has " + string(state), meets(inState(state), on(once.Reject), retry), decision{do: replay}},
			cell{"A stopping worker still replays what has " + string(state), meets(inState(state), stopping, late), decision{do: replay}},
		)
	}
	check(t,
		cell{"Return sends another call away while the owner runs", meets(running), inFlight},
		cell{"Return sends a retry away while the owner runs", meets(running, retry), inFlight},
		cell{"Reject sends a retry away while the owner runs", meets(running, on(once.Reject), retry), inFlight},
		cell{"Reject sends a reset of the call away while the owner runs", meets(running, on(once.Reject), reset), inFlight},
		cell{"Wait keeps the slot of a reset of the call until its deadline", meets(running, on(once.Wait), reset), wait(time.Minute)},
		cell{"Reject refuses another call while the owner runs", meets(running, on(once.Reject)), duplicate},
		cell{"Reject refuses another call on its last attempt too", meets(running, on(once.Reject), last), duplicate},
		cell{"Wait keeps another call's slot until its deadline", meets(running, on(once.Wait)), wait(time.Minute)},
		cell{"Wait keeps a retry's slot until its deadline", meets(running, on(once.Wait), retry), wait(time.Minute)},
		cell{"Wait ends as Return at its deadline", meets(running, on(once.Wait), timeLeft(0)), inFlight},
		cell{"Wait ends as Return when the worker stops", meets(running, on(once.Wait), stopping), inFlight},
		cell{"Wait goes on when it is too late to run", meets(running, on(once.Wait), late), wait(time.Minute)},
		cell{"A lease that is over, but not marked, is no doubt yet", meets(runningFor(-time.Hour), late), later(once.InFlight, minRetry)},
	)
}

func TestDecide_PendingMeetsItsCall(t *testing.T) {
	t.Parallel()
	open := pendingPast(-time.Minute)
	ended := pendingPast(testDelay)
	check(t,
		cell{"Return sends another call away", meets(open), later(once.InFlight, maxRetry)},
		cell{"Wait sends another call away", meets(open, on(once.Wait)), later(once.InFlight, maxRetry)},
		cell{"Reject refuses another call", meets(open, on(once.Reject)), never(once.Duplicate)},
		cell{"another call is sent away however old it is", meets(ended, under(once.Rerun)), later(once.InFlight, maxRetry)},
		cell{"another call waits on its last attempt", meets(open, last), wait(time.Minute)},
		cell{"a retry lets the attempt's time and the settle delay pass", meets(open, retry, under(once.Rerun)), undecided(90 * time.Second)},
		cell{"a retry lets the settle delay pass", meets(pendingPast(testDelay-time.Second), retry, under(once.Rerun)), undecided(time.Second)},
		cell{"a retry holds under Hold", meets(ended, retry), later(once.InDoubt, testHold)},
		cell{"a retry fails under Fail", meets(ended, retry, under(once.Fail)), never(once.InDoubt)},
		cell{"a retry takes over under Resume", meets(ended, retry, under(once.Resume)), decision{do: takeOver}},
		cell{"a retry asks under Reconcile", meets(ended, retry, under(once.Reconcile(findNothing))), decision{do: ask}},
		cell{"a reset of the call lets the settle delay pass", meets(pendingPast(testDelay-time.Second), reset, under(once.Rerun)), undecided(time.Second)},
		cell{"a reset of the call takes over under Rerun", meets(ended, reset, under(once.Rerun)), decision{do: takeOver}},
		cell{"a reset of the call holds under Resume", meets(ended, reset, under(once.Resume)), later(once.InDoubt, testHold)},
		cell{"Reject lets a reset of the call meet the InDoubt policy", meets(ended, reset, on(once.Reject), under(once.Rerun)), decision{do: takeOver}},
		cell{"Reject lets a retry meet the InDoubt policy", meets(ended, retry, on(once.Reject), under(once.Rerun)), decision{do: takeOver}},
	)
}

func TestDecide_MismatchComesFirst(t *testing.T) {
	t.Parallel()
	mismatch := never(once.Mismatch)
	for name, r := range map[string]store.Record{
		"what runs": runningFor(time.Minute), "what is in doubt": inDoubtSince(time.Hour), "what is pending": pendingPast(0),
		"what has succeeded": inState(store.Succeeded), "what has failed": inState(store.Failed),
	} {
		for _, d := range []once.DuplicatePolicy{once.Return, once.Wait, once.Reject} {
			check(t,
				cell{d.String() + " refuses other input for " + name, meets(r, other, on(d), under(once.Rerun)), mismatch},
				cell{d.String() + " refuses it to a reset of the call too, for " + name, meets(r, other, reset, on(d), under(once.Rerun)), mismatch},
				cell{d.String() + " refuses it on the last attempt too, for " + name, meets(r, other, on(d), last), mismatch},
			)
			asked := decide(meets(r, other, retry, on(d)))
			require.NotEqual(t, once.Mismatch, asked.reason, "%v asks a retry whether it matches %s", d, name)
		}
	}
	check(t, cell{"a tombstone has nothing to disagree with", meets(inState(store.Tombstone), other), later(once.InFlight, minRetry)})
}

func TestDecide_InDoubtPolicies(t *testing.T) {
	t.Parallel()
	reconcile := once.Reconcile(findNothing)
	old := inDoubtSince(testDelay)
	held := later(once.InDoubt, testHold)
	takes, asks := decision{do: takeOver}, decision{do: ask}
	for _, tc := range []struct {
		policy                    once.DoubtPolicy
		retry, other, local, late decision // late: of a retry
	}{
		{once.Hold, held, held, held, held},
		{once.HoldFor(time.Hour), held, held, held, held},
		{once.HoldFor(time.Second), never(once.InDoubt), never(once.InDoubt), never(once.InDoubt), never(once.InDoubt)},
		{once.Fail, never(once.InDoubt), never(once.InDoubt), never(once.InDoubt), never(once.InDoubt)},
		{once.Resume, takes, held, held, undecided(minRetry)},
		{once.Rerun, takes, takes, takes, undecided(minRetry)},
		{reconcile, asks, asks, asks, undecided(minRetry)},
	} {
		name := tc.policy.String()
		check(t,
			cell{name + " answers a retry", meets(old, under(tc.policy), retry), tc.retry},
			cell{name + " answers another call", meets(old, under(tc.policy)), tc.other},
			cell{name + " answers a reset of the call", meets(old, under(tc.policy), reset), tc.other},
			cell{name + " answers a reset of the call under Reject", meets(old, under(tc.policy), on(once.Reject), reset), tc.other},
			cell{name + " answers a retry of a local activity", meets(old, under(tc.policy), retry, local), tc.local},
			cell{name + " answers a retry that is late", meets(old, under(tc.policy), retry, late), tc.late},
			cell{name + " answers a retry while the worker stops", meets(old, under(tc.policy), retry, stopping), tc.late},
			cell{name + " answers a retry under Wait", meets(old, under(tc.policy), retry, on(once.Wait)), tc.retry},
			cell{name + " answers another call under Reject", meets(old, under(tc.policy), on(once.Reject)), tc.other},
			cell{name + " answers the last attempt", meets(old, under(tc.policy), retry, last), tc.retry},
			cell{name + " says nothing before the settle delay is over", meets(inDoubtSince(testDelay-1), under(tc.policy), retry), undecided(minRetry)},
			cell{name + " says nothing to another call before that", meets(inDoubtSince(0), under(tc.policy)), undecided(testDelay)},
			cell{name + " keeps no slot before that", meets(inDoubtSince(0), under(tc.policy), on(once.Wait)), undecided(testDelay)},
		)
	}
}

// A ledger decides about the runs that go by it, and at once: they had their effect, or
// cannot have it any more.
func TestDecide_ALedgerDecidesWithoutASettleDelay(t *testing.T) {
	t.Parallel()
	const id = "ledger"
	byIt := under(once.DecidedBy(noLedger{id}))
	of := func(r store.Record, ledger string) store.Record {
		r.Info.Ledger = ledger
		return r
	}
	asks, held := decision{do: ask}, later(once.InDoubt, testHold)
	for _, d := range []once.DuplicatePolicy{once.Return, once.Wait, once.Reject} {
		for name, who := range map[string]func(*situation){"a retry": retry, "a reset": reset, "another call": func(*situation) {}, "a local one": local, "a function": alone} {
			fresh := of(inDoubtSince(0), id)
			check(t,
				cell{d.String() + ": " + name + " asks at once", meets(fresh, who, on(d), byIt), asks},
				cell{d.String() + ": " + name + " asks later on, too", meets(of(inDoubtSince(time.Hour), id), who, on(d), byIt), asks},
				cell{d.String() + ": " + name + " asks on its last attempt", meets(fresh, who, on(d), byIt, last), asks},
				cell{d.String() + ": " + name + " that is late does not", meets(fresh, who, on(d), byIt, late), undecided(minRetry)},
				cell{d.String() + ": " + name + " of other input is a mismatch", meets(fresh, other, on(d), byIt), never(once.Mismatch)},
			)
		}
	}
	for name, r := range map[string]store.Record{"of another ledger": of(inDoubtSince(testDelay), "other"), "of none": inDoubtSince(testDelay)} {
		check(t,
			cell{"a doubt " + name + " holds", meets(r, byIt, retry), held},
			cell{"a doubt " + name + " holds for another call", meets(r, byIt), held},
			cell{"a doubt " + name + " holds on the last attempt", meets(r, byIt, retry, last), held},
		)
	}
	young := inDoubtSince(testDelay - time.Second)
	check(t,
		cell{"a doubt of another ledger lets the settle delay pass", meets(of(young, "other"), byIt, retry), undecided(time.Second)},
		cell{"a doubt of no ledger lets the settle delay pass", meets(young, byIt, retry), undecided(time.Second)},
		cell{"a ledger says nothing under another policy", meets(of(young, id), under(once.Rerun), retry), undecided(time.Second)},
		cell{"a ledger does not decide what is pending", meets(of(pendingPast(testDelay), id), byIt, retry), held},
		cell{"a live owner is left alone", meets(of(runningFor(5*time.Second), id), byIt, retry), later(once.InFlight, 5*time.Second)},
		cell{"a stopping worker leaves it to another", meets(of(inDoubtSince(0), id), byIt, stopping), undecided(minRetry)},
	)
}

// noLedger is a ledger that nobody asks.
type noLedger struct{ id string }

func (l noLedger) ID() string { return l.id }

func (l noLedger) Decide(context.Context, effect.Run) (effect.Outcome, error) {
	return effect.Outcome{}, effect.ErrNotDone
}

func (l noLedger) Confirm(context.Context, effect.Run) error { return nil }

func TestDecide_HoldForEnds(t *testing.T) {
	t.Parallel()
	hold := under(once.HoldFor(time.Minute))
	check(t,
		cell{"at its start it holds", meets(inDoubtSince(testDelay), hold), later(once.InDoubt, testHold)},
		cell{"it comes back when its time is over", meets(inDoubtSince(57*time.Second), hold), later(once.InDoubt, 3*time.Second)},
		cell{"just before its end it comes back once more", meets(inDoubtSince(time.Minute-1), hold), later(once.InDoubt, minRetry)},
		cell{"at its end it fails", meets(inDoubtSince(time.Minute), hold), never(once.InDoubt)},
		cell{"on the last attempt it does not hold the slot", meets(inDoubtSince(testDelay), hold, last), later(once.InDoubt, testHold)},
		cell{"it never fails before the settle delay", meets(inDoubtSince(20*time.Second), under(once.HoldFor(time.Second))), undecided(10 * time.Second)},
	)
}

func TestDecide_LastAttemptWaitsInItsSlot(t *testing.T) {
	t.Parallel()
	fresh := inDoubtSince(10 * time.Second) // 20 s of the settle delay are left
	running := runningFor(5 * time.Second)
	for _, tc := range []struct {
		name string
		last func(*situation)
	}{
		{"by count", last},
		{"by time", scheduleLeft(6 * time.Second)},
	} {
		check(t,
			cell{tc.name + ", a live owner is waited for", meets(running, tc.last), wait(time.Minute)},
			cell{tc.name + ", a live owner is waited for under Reject, by a retry", meets(running, tc.last, on(once.Reject), retry), wait(time.Minute)},
			cell{tc.name + ", the settle delay is waited for", meets(fresh, tc.last), wait(20 * time.Second)},
			cell{tc.name + ", the settle delay is waited for under Fail", meets(fresh, tc.last, under(once.Fail)), wait(20 * time.Second)},
			cell{tc.name + ", a settle delay that does not fit ends in doubt", meets(fresh, tc.last, timeLeft(20*time.Second)), never(once.InDoubt)},
			cell{tc.name + ", a settle delay that just fits is waited for", meets(fresh, tc.last, timeLeft(20*time.Second+1)), wait(20 * time.Second)},
			cell{tc.name + ", a free key is waited for", meets(inState(store.Absent), tc.last, scheduleLeft(time.Second)), wait(time.Minute)},
			cell{tc.name + ", the policy applies at once after the delay", meets(inDoubtSince(testDelay), tc.last, under(once.Rerun)), decision{do: takeOver}},
		)
	}
	check(t,
		cell{"an owner that outlives the last attempt is in flight", meets(running, last, timeLeft(0)), later(once.InFlight, 5*time.Second)},
		cell{"with time for one more attempt, the owner is not waited for", meets(running, scheduleLeft(7*time.Second)), later(once.InFlight, 5*time.Second)},
		cell{"without time for one more attempt, the owner is waited for", meets(running, scheduleLeft(7*time.Second-1)), wait(time.Minute)},
		cell{"a lease about to end is waited for like one of 1s", meets(runningFor(time.Millisecond), scheduleLeft(3*time.Second-1)), wait(time.Minute)},
		cell{"with time for one more attempt, the delay is not waited for", meets(fresh, scheduleLeft(22*time.Second)), undecided(20 * time.Second)},
		cell{"without time for one more attempt, the delay is waited for", meets(fresh, scheduleLeft(22*time.Second-1)), wait(20 * time.Second)},
		cell{"ScheduleToClose over: what cannot be waited for ends in doubt", meets(fresh, scheduleLeft(0), timeLeft(0)), never(once.InDoubt)},
		cell{"a stopping worker leaves the delay to another", meets(fresh, scheduleLeft(21*time.Second), stopping), undecided(minRetry)},
	)
}

// Where nobody comes back by himself, Wait waits for all that passes by itself; what
// somebody has to decide is answered at once.
func TestDecide_WaitOfALoneCallWaitsForTheSettleDelay(t *testing.T) {
	t.Parallel()
	fresh, old := inDoubtSince(10*time.Second), inDoubtSince(testDelay) // 20 s of the settle delay are left
	for _, p := range []once.DoubtPolicy{once.Hold, once.HoldFor(time.Hour), once.Fail, once.Rerun, once.Reconcile(findNothing)} {
		name := p.String()
		check(t,
			cell{name + " lets the delay pass under Wait", meets(fresh, alone, under(p), on(once.Wait)), wait(20 * time.Second)},
			cell{name + " waits no longer than the caller", meets(fresh, alone, under(p), on(once.Wait), timeLeft(20*time.Second)), undecided(20 * time.Second)},
			cell{name + " sends away under Return", meets(fresh, alone, under(p)), undecided(20 * time.Second)},
			cell{name + " sends away under Reject", meets(fresh, alone, under(p), on(once.Reject)), undecided(20 * time.Second)},
			cell{name + " sends away while it stops", meets(fresh, alone, under(p), on(once.Wait), stopping), undecided(20 * time.Second)},
			cell{name + " applies after the delay as to others", meets(old, alone, under(p), on(once.Wait)), decide(meets(old, under(p), on(once.Wait)))},
		)
	}
	check(t,
		cell{"an owner is waited for", meets(runningFor(time.Second), alone, on(once.Wait)), wait(time.Minute)},
		cell{"a free key that it was not granted is not", meets(inState(store.Absent), alone, on(once.Wait)), later(once.InFlight, minRetry)},
	)
}

func TestDecide_StoppingWorkerGivesBackWhatAnotherCanTake(t *testing.T) {
	t.Parallel()
	const stop = 9 * time.Second // is left to the worker
	running := runningFor(5 * time.Second)
	fresh, old := inDoubtSince(10*time.Second), inDoubtSince(testDelay)
	for name, change := range map[string]func(*situation){
		"on the last attempt":                   last,
		"without time for another":              scheduleLeft(2 * time.Second),
		"on the last attempt of a local one":    func(s *situation) { s.last, s.local = true, true },
		"on any attempt of a local one by Wait": func(s *situation) { s.local, s.policy.OnDuplicate = true, once.Wait },
	} {
		check(t,
			cell{name + ", a live owner is waited for", meets(running, change, stopping, timeLeft(stop)), wait(stop)},
			cell{name + ", what was in doubt long enough is taken over", meets(old, change, stopping, under(once.Rerun), timeLeft(stop)), decision{do: takeOver}},
			cell{name + ", it is asked about", meets(old, change, stopping, under(once.Reconcile(findNothing)), timeLeft(stop)), decision{do: ask}},
		)
	}
	check(t,
		cell{"a settle delay that the stop leaves time for is waited for", meets(inDoubtSince(22*time.Second), last, stopping, timeLeft(stop)), wait(8 * time.Second)},
		cell{"one that it does not ends in doubt", meets(fresh, last, stopping, timeLeft(stop)), never(once.InDoubt)},
		cell{"what the stop left no time for is in flight", meets(running, last, stopping, timeLeft(0)), later(once.InFlight, 5*time.Second)},
		cell{"a local activity comes back as it would without the stop", meets(running, local, stopping), later(once.InFlight, 5*time.Second)},
		cell{"it holds as it would", meets(old, local, stopping), later(once.InDoubt, testHold)},
		cell{"it lets the settle delay pass as it would", meets(fresh, local, stopping), undecided(20 * time.Second)},
		cell{"others give back a live owner's key", meets(running, stopping, on(once.Wait)), later(once.InFlight, 5*time.Second)},
		cell{"they give back what they would take over", meets(old, stopping, under(once.Rerun)), undecided(minRetry)},
		cell{"they give back what is not decided yet", meets(fresh, stopping), undecided(20 * time.Second)},
	)
}

func TestDecide_DelayFitsTheLeaseAndTheSchedule(t *testing.T) {
	t.Parallel()
	check(t,
		cell{"a lease about to end is looked at in 1s", meets(runningFor(time.Millisecond)), later(once.InFlight, time.Second)},
		cell{"a lease of 4s is looked at in 4s", meets(runningFor(4 * time.Second)), later(once.InFlight, 4*time.Second)},
		cell{"a long lease is looked at in 10s", meets(runningFor(time.Hour)), later(once.InFlight, 10*time.Second)},
		cell{"a hold is cut to what is left", meets(inDoubtSince(time.Hour), scheduleLeft(5*time.Second)), later(once.InDoubt, 3*time.Second)},
		cell{"a hold that fits is not cut", meets(inDoubtSince(time.Hour), scheduleLeft(7*time.Second)), later(once.InDoubt, testHold)},
		cell{"no delay is under 1s", meets(inDoubtSince(time.Hour), scheduleLeft(2*time.Second)), later(once.InDoubt, time.Second)},
	)
	// The server fails an activity at once whose delay does not fit.
	for _, r := range []store.Record{
		inState(store.Absent), inState(store.Tombstone), runningFor(time.Minute), inDoubtSince(0), inDoubtSince(time.Hour), pendingPast(0),
	} {
		for left := 2 * time.Second; left < time.Minute; left += 500 * time.Millisecond {
			for _, change := range []func(*situation){retry, reset, late, stopping, last, under(once.HoldFor(time.Minute)), under(once.Rerun), timeLeft(0)} {
				d := decide(meets(r, scheduleLeft(left), change))
				if d.do == refuse && d.retryable {
					require.GreaterOrEqual(t, d.delay, minRetry, "record %s, %v left", r.State, left)
					require.Less(t, d.delay, left, "record %s", r.State)
				}
			}
		}
	}
}

func TestDecide_NeverActsWithoutAnOwnerOrADoubt(t *testing.T) {
	t.Parallel()
	for _, r := range []store.Record{
		inState(store.Absent), inState(store.Tombstone), inState(store.Succeeded), inState(store.Failed),
		runningFor(time.Minute), runningFor(-time.Minute), inDoubtSince(testDelay - 1), pendingPast(testDelay - 1),
	} {
		for _, d := range []once.DuplicatePolicy{once.Return, once.Wait, once.Reject} {
			for _, change := range []func(*situation){retry, reset, local, last, late, stopping, scheduleLeft(0), timeLeft(0)} {
				got := decide(meets(r, on(d), under(once.Rerun), change))
				require.NotContains(t, []action{run, takeOver, ask}, got.do, "record %s, %v", r.State, d)
			}
		}
	}
}
