package once

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"time"

	"github.com/atmostonce/atmostonce/internal/effect"
	"github.com/atmostonce/atmostonce/keys"
)

// Forever, as a TTL, keeps the record until an operator removes it.
const Forever time.Duration = math.MaxInt64

// Policy says how an activity is guarded. A zero field is not said: it means
// the guard's Options.Defaults, and where those do not say, the default given
// here. Policies are comparable.
type Policy struct {
	// TTL is how long the record of a key is remembered after its last contact:
	// for that long the effect does not happen again. At least 1 ms. It is
	// silently raised to what Temporal needs to retry the call. Defaults to 30
	// days.
	TTL time.Duration
	// Key names the effect. Defaults to keys.Hash, the whole input.
	Key keys.Func
	// Match is what a duplicate must agree on with the original besides the
	// key; one that does not gets a Mismatch error. Defaults to the whole input;
	// keys.Any asks for nothing. It is never asked of a retry.
	Match keys.Func
	// Scope says how far Key reaches. Defaults to keys.PerWorkflow; it must be
	// said where Key is. keys.PerRun and keys.PerCall know a call after a reset
	// where the guard, or interceptor.Workflows, is on the worker that runs the
	// workflow.
	Scope keys.Scope
	// OnDuplicate says what a call gets while another one is running. Defaults
	// to Return.
	OnDuplicate DuplicatePolicy
	// OnFailure says what an error that the activity returns means. Defaults to
	// Unlock.
	OnFailure FailurePolicy
	// InDoubt says what happens when nobody knows whether the effect took
	// place. Defaults to Hold.
	InDoubt DoubtPolicy
}

// Or returns p, completed by defaults. Key, Match and Scope are one choice: where p
// says Key or Scope, none of the three is taken.
func (p Policy) Or(defaults Policy) Policy {
	if p.TTL == 0 {
		p.TTL = defaults.TTL
	}
	if p.Key.IsZero() && p.Scope == 0 {
		p.Key, p.Scope = defaults.Key, defaults.Scope
		if p.Match.IsZero() {
			p.Match = defaults.Match
		}
	}
	if p.OnDuplicate == 0 {
		p.OnDuplicate = defaults.OnDuplicate
	}
	if p.OnFailure == (FailurePolicy{}) {
		p.OnFailure = defaults.OnFailure
	}
	if p.InDoubt == (DoubtPolicy{}) {
		p.InDoubt = defaults.InDoubt
	}
	return p
}

// Validate returns every contradiction in p, joined.
func (p Policy) Validate() error {
	var errs []error
	complain := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if p.TTL != 0 && p.TTL < time.Millisecond {
		complain("TTL is %v; the least is 1ms", p.TTL)
	}
	if p.Scope > keys.PerNamespace {
		complain("no such scope: %v", p.Scope)
	}
	hashed := p.Key.IsZero() || p.Key.IsHash()
	switch {
	case !p.Key.IsZero() && p.Scope == 0:
		complain("Key is set, so Scope must be too: is one effect meant per workflow ID or in the whole namespace?")
	case p.Scope == keys.PerCall && !hashed:
		complain("Scope PerCall counts calls of equal input and takes no Key")
	case p.Scope == keys.PerNamespace && hashed:
		complain("Scope PerNamespace needs a Key: equal input alone does not make calls of different workflows one effect")
	}
	if err := p.Key.Check(nil); err != nil && !p.Key.Typed() {
		complain("Key: %w", err)
	}
	if err := p.Match.Check(nil); err != nil && !p.Match.Typed() {
		complain("Match: %w", err)
	}
	if p.OnDuplicate > Wait {
		complain("no such OnDuplicate: %d", p.OnDuplicate)
	}
	if p.OnFailure.kind == classify && p.OnFailure.by.f == nil {
		complain("Classify needs a function")
	}
	if p.InDoubt.kind == holdFor && p.InDoubt.hold <= 0 {
		complain("HoldFor(%v): the time must be positive", p.InDoubt.hold)
	}
	if p.InDoubt.kind == reconcile && p.InDoubt.find.call == nil {
		complain("Reconcile needs a function")
	}
	if p.InDoubt.kind == decidedBy && (p.InDoubt.ledger == nil || p.InDoubt.ledger.ID() == "") {
		complain("DecidedBy needs a ledger, and that an ID")
	}
	return errors.Join(errs...)
}

// DuplicatePolicy says what a call gets while another one with its key is
// running. A key that is settled is replayed under each of them.
type DuplicatePolicy uint8

const (
	// Return answers with a retryable InFlight error that asks Temporal to come
	// back: no activity slot is held, and the retry gets the recorded outcome.
	// The workflow's attempts count these; on the last one the call waits in
	// its slot.
	Return DuplicatePolicy = iota + 1
	// Reject fails another call for good with a Duplicate error, whether the
	// first is running or settled. A retry of the same call is treated as by
	// Return, and so is the call after a reset where it has the guard's header.
	Reject
	// Wait holds the slot, heartbeating, until the outcome is there. What does
	// not fit into the attempt is answered as by Return.
	Wait
)

// FailurePolicy says what an error that the activity returns means. Values are
// comparable.
type FailurePolicy struct {
	kind failureKind
	by   *classifier
}

type failureKind uint8

const (
	unlock failureKind = iota + 1
	lock
	doubt
	classify
)

type classifier struct{ f func(error) FailurePolicy }

var (
	// Unlock takes a returned error to say that nothing happened: the key is
	// free, and a retry runs the activity again. Errors that cannot say so put
	// the effect in doubt: those after [Begin], those after the attempt's context
	// ended, and those that are recognised: timeouts, connections that broke or
	// were refused, answers that do not exclude execution. A connection of
	// net/http is believed to have been refused if the request was made with the
	// activity's context and no other was. In a tree of errors, every branch must
	// say so. docs/failures.md lists what is recognised; an error that is not is
	// believed.
	Unlock = FailurePolicy{kind: unlock}
	// Lock keeps the failure: it becomes non-retryable, and duplicates get it
	// too. What puts the effect in doubt under Unlock does so here.
	Lock = FailurePolicy{kind: lock}
	// Doubt takes every error to mean that the effect may have happened.
	Doubt = FailurePolicy{kind: doubt}
)

// Classify asks f about each error; f answers Unlock, Lock or Doubt, and its
// answer stands, ambiguous or not. Anything else it answers counts as Doubt.
func Classify(f func(error) FailurePolicy) FailurePolicy {
	return FailurePolicy{kind: classify, by: &classifier{f}}
}

// Decide returns Unlock, Lock or Doubt for err, and whether that is the last
// word: it is where NotDone, MaybeDone or Classify spoke. In a tree of errors,
// NotDone must have spoken of every branch, MaybeDone of one.
func (p FailurePolicy) Decide(err error) (verdict FailurePolicy, final bool) {
	if v := said(err); v != (FailurePolicy{}) {
		return v, true
	}
	if p.kind != classify {
		if p.kind == 0 {
			p = Unlock
		}
		return p, false
	}
	if v := p.by.f(err); v == Unlock || v == Lock {
		return v, true
	}
	return Doubt, true
}

// DoubtPolicy says what a call does when it finds its key in doubt: the owner died,
// or does not know whether the effect took place. Each but [DecidedBy] applies
// after the guard's Options.SettleDelay. Values are comparable.
type DoubtPolicy struct {
	kind   doubtKind
	hold   time.Duration
	find   *finder
	ledger effect.Ledger // comparable
}

type doubtKind uint8

const (
	hold doubtKind = iota + 1
	holdFor
	fail
	resume
	rerun
	reconcile
	decidedBy
)

var (
	// Hold does not run the activity: a retryable error asks Temporal to come back
	// until an operator has resolved the key. It holds for as long as Temporal comes
	// back: with unlimited attempts, until somebody has decided; else for
	// (MaximumAttempts - 1) times the guard's Options.HoldRetry, and never beyond
	// ScheduleToCloseTimeout. Then the call fails with the doubt; see HoldFor.
	Hold = DoubtPolicy{kind: hold}
	// Fail does not run the activity: the workflow gets a non-retryable
	// InDoubt error, and can compensate.
	Fail = DoubtPolicy{kind: fail}
	// Resume lets a retry of the same call run the activity again, to go on
	// from its heartbeat details. Other calls, resets and local activities hold.
	// For long activities that checkpoint.
	//
	// What was done after the last checkpoint is done again. The SDK holds
	// heartbeats back for up to four fifths of the heartbeat timeout, and a killed
	// worker loses them: set worker.Options.MaxHeartbeatThrottleInterval, or ask
	// the callee what it has whenever Claim.Takeover is set. With OnFailure Unlock
	// an error in the middle means that nothing happened; a job of many effects
	// needs Doubt. A final error ends the call, as under Rerun.
	Resume = DoubtPolicy{kind: resume}
	// Rerun runs the activity again. The effect may then happen twice: at least
	// once, as without a guard. While it is in doubt, an error that Temporal would
	// not retry ends the call: it is the cause of a non-retryable InDoubt error, and
	// the key stays in doubt.
	Rerun = DoubtPolicy{kind: rerun}
)

// HoldFor holds until the key has been in doubt for d, then fails. It can fail
// before, where Hold would.
func HoldFor(d time.Duration) DoubtPolicy { return DoubtPolicy{kind: holdFor, hold: d} }

// ErrNotDone is what a [Reconcile] function returns for an effect that did not
// happen, and cannot happen any more.
var ErrNotDone = errors.New("activity: the effect did not happen")

// Reconcile asks find whether the effect took place. find is called with the
// activity's first argument, on the worker, in the slot of the attempt that
// found the key in doubt; [Key] answers in it. What it returns:
//
//   - a result and nil: it happened; the result is recorded and replayed;
//   - ErrNotDone: it did not happen; the activity runs;
//   - any other error: still in doubt; Temporal comes back, and find is asked
//     again.
//
// In and Out must be the activity's first argument and its result; this is
// checked when the worker starts.
func Reconcile[In, Out any](find func(ctx context.Context, in In) (Out, error)) DoubtPolicy {
	f := &finder{in: reflect.TypeFor[In](), out: reflect.TypeFor[Out]()}
	if find != nil {
		f.call = func(ctx context.Context, args []any) (any, error) {
			in, err := argument[In](args)
			if err != nil {
				return nil, err
			}
			return find(ctx, in)
		}
	}
	return DoubtPolicy{kind: reconcile, find: f}
}

// DecidedBy goes by a ledger, which is written in one step with the effect: it knows
// whether that took place, and that it no longer can. There is no settle delay, and what
// did not happen runs again at once. It is for packages that keep a ledger, such as txn;
// others take what these make of it.
//
// Every effect of the activity must be one that the ledger is written with: of others it
// says that they did not happen. A doubt about a run whose policy went by another ledger, or by
// none, holds as under Hold. A result that the ledger has is replayed once the ledger has
// confirmed that it still does.
func DecidedBy(l effect.Ledger) DoubtPolicy {
	if l != nil && !reflect.TypeOf(l).Comparable() {
		l = &ledger{l}
	}
	return DoubtPolicy{kind: decidedBy, ledger: l}
}

// ledger is one whose own type cannot be compared.
type ledger struct{ effect.Ledger }

type finder struct {
	in, out reflect.Type
	call    func(ctx context.Context, args []any) (any, error)
}

func argument[In any](args []any) (in In, err error) {
	if len(args) == 0 {
		return in, fmt.Errorf("activity: the reconcile function wants %v, but the call has no argument", reflect.TypeFor[In]())
	}
	switch arg := args[0].(type) {
	case In:
		return arg, nil
	case nil:
		return in, nil
	case interface{ Get(ptrs ...any) error }:
		return in, arg.Get(&in)
	default:
		return in, fmt.Errorf("activity: the reconcile function wants %v, but the call has %T", reflect.TypeFor[In](), arg)
	}
}

// HoldTime returns the time given to HoldFor; ok is false for other policies.
func (p DoubtPolicy) HoldTime() (d time.Duration, ok bool) { return p.hold, p.kind == holdFor }

// Reconciles reports whether p is made by Reconcile.
func (p DoubtPolicy) Reconciles() bool { return p.kind == reconcile }

// Ledger returns what was given to DecidedBy; nil for other policies.
func (p DoubtPolicy) Ledger() effect.Ledger { return p.ledger }

// TakesOver reports whether p may run an activity whose earlier run is in
// doubt.
func (p DoubtPolicy) TakesOver() bool {
	return p.kind == resume || p.kind == rerun || p.kind == reconcile || p.kind == decidedBy
}

// Find calls the function given to Reconcile.
func (p DoubtPolicy) Find(ctx context.Context, args []any) (any, error) {
	return p.find.call(ctx, args)
}

// String returns the policy's name in Go.
func (p DoubtPolicy) String() string {
	names := [...]string{"", "Hold", "HoldFor", "Fail", "Resume", "Rerun", "Reconcile", "DecidedBy"}
	return names[p.kind]
}

// String returns the policy's name in Go.
func (p DuplicatePolicy) String() string {
	names := [...]string{"", "Return", "Reject", "Wait"}
	if int(p) >= len(names) {
		return fmt.Sprintf("DuplicatePolicy(%d)", p)
	}
	return names[p]
}

// String returns the policy's name in Go.
func (p FailurePolicy) String() string {
	names := [...]string{"", "Unlock", "Lock", "Doubt", "Classify"}
	return names[p.kind]
}
