package engine

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/atmostonce/atmostonce/internal/effect"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// ErrNoCall says that a step belongs to no guarded call.
var ErrNoCall = errors.New("a step needs the context of the guarded call that it belongs to")

// Step is a step of a guarded call, as its body names it.
type Step struct {
	Name   string
	Policy []once.Policy // of its own: one, or none
	Out    reflect.Type  // of its result
	Body   Body          // nil: there is none
}

// ActivityOfSteps ends the activity type under which the steps of an activity are
// recorded and counted: one for all of them, since names can be many.
const ActivityOfSteps = "/step"

type stepsKey struct{}

// steps are those of one run of a body.
type steps struct {
	call *call
	mode once.Mode

	mu      sync.Mutex
	open    bool            // the body runs
	names   map[string]bool // used in this run
	unsure  int             // how many run, or have ended so that nobody knows
	refused []error         // of steps that were not run
	marked  []error         // with NotDone: each speaks of one step
}

// taking returns body as one whose context takes steps while it runs.
func (s *steps) taking(body Body) Body {
	return func(ctx context.Context) (any, error) {
		s.turn(true)
		defer s.turn(false)
		if ctx.Value(stepsKey{}) != s { // it has no claim; see watched
			ctx = &unclaimed{ctx, s}
		}
		return body(ctx)
	}
}

// unclaimed is the context of a body without a claim.
type unclaimed struct {
	context.Context
	steps *steps
}

// Value implements context.Context.
func (u *unclaimed) Value(key any) any {
	switch key {
	case stepsKey{}:
		return u.steps
	case effect.Key{}:
		return u.steps.call.effect()
	}
	return u.Context.Value(key)
}

func (s *steps) turn(open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = open
}

// take notes the name of a step that begins, and returns why it must not.
func (s *steps) take(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.open:
		return errors.New("the guarded call has ended: let it wait for its steps")
	case s.call.step != "":
		return fmt.Errorf("step %s is called in step %s: a step has no steps of its own", name, s.call.step)
	case name == "":
		return errors.New("the step has no name")
	case s.names[name]:
		return fmt.Errorf("two steps of this run are called %s: the second would get the first one's result", name)
	}
	if s.names == nil {
		s.names = map[string]bool{}
	}
	s.names[name] = true
	s.unsure++
	return nil
}

// end notes that a step has ended, and its own record says how.
func (s *steps) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsure--
}

// areUnsure reports whether a step may have an effect that no record vouches for.
func (s *steps) areUnsure() bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unsure > 0
}

// markNotDone marks the error of a step that has had no effect.
func (s *steps) markNotDone(err error) error {
	err = once.NotDone(err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.marked = append(s.marked, err)
	return err
}

// haveMarked reports whether err wraps such an error.
func (s *steps) haveMarked(err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.marked, func(marked error) bool { return errors.Is(err, marked) })
}

// refuse notes the error of a step that was not run.
func (s *steps) refuse(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = append(s.refused, err)
}

// isRefusal reports whether err, whatever it wraps, is what such a step has returned. It
// says nothing of an effect: whether the step has one, its own record decides.
func (s *steps) isRefusal(err error) bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, refused := range s.refused {
		if err == refused { //nolint:errorlint // the very same
			return true
		}
	}
	return false
}

// wraps reports whether err wraps such an error.
func (s *steps) wraps(err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, refused := range s.refused {
		if errors.Is(err, refused) {
			return true
		}
	}
	return false
}

// RunStep guards a step of the call in whose context ctx is, and returns a result of
// the type of the step.
func RunStep(ctx context.Context, step Step) (any, error) {
	s, ok := ctx.Value(stepsKey{}).(*steps)
	if !ok {
		return nil, ErrNoCall
	}
	claim, _ := once.FromContext(ctx)
	if claim.Lost { // ctx does not say so where it was detached
		return nil, errLeaseOver
	}
	policy, unfit := s.policy(step)
	taken := s.take(step.Name)
	if taken != nil {
		unfit = taken
	}
	mode, unnamed := s.mode, error(nil)
	switch outer := &s.call.Identity; {
	case unfit != nil:
		mode, unnamed = once.Enforce, BadSetup(unfit)
	case outer.Key == "": // nothing guards the call either
		mode = once.Off
	}
	r := *s.call.Request
	r.step, r.Policy, r.Identity = step.Name, policy, s.identity(ctx, step.Name)
	r.Out = step.Out
	r.settled = nil // which is about the call's own record
	door := &stepDoor{Door: r.Door, steps: s, step: step, token: claim.Token}
	r.Door = door
	if len(r.Args) == 0 {
		r.Args = []any{struct{}{}}
	}
	r.Span = 0 // a step is late only when the attempt is over
	if mode == once.Observe {
		r.Span = time.Until(r.Deadline)
	}
	var failed error
	result, err := s.call.engine.Do(ctx, &r, mode, unnamed, func(ctx context.Context) (result any, err error) {
		result, failed = step.Body(ctx)
		return result, failed
	})
	if taken == nil && !door.unsure {
		s.end()
	}
	if failed != nil && err != nil && !door.unsure && !s.isRefusal(err) {
		// What the step's policy is certain of holds for the call, too.
		if verdict, final := policy.OnFailure.Decide(failed); final && verdict == once.Unlock {
			err = s.markNotDone(err)
		}
	}
	return result, err
}

// identity is that of a step of the call.
func (s *steps) identity(ctx context.Context, name string) Identity {
	i := s.call.Identity
	if s.call.step == "" {
		i.Activity += ActivityOfSteps
	}
	if i.Key != "" {
		return i.Named(keys.Step(i.Key, name))
	}
	if key := s.call.Door.KeyOf(ctx); key != "" {
		i.Downstream = keys.Downstream(keys.Step(key, name))
	}
	return i
}

// policy returns that of the step, complete, and what is wrong with the step.
func (s *steps) policy(step Step) (once.Policy, error) {
	outer := s.call.Policy
	if outer.OnDuplicate == once.Reject {
		outer.OnDuplicate = once.Return
	}
	if outer.InDoubt.TakesOver() { // which is about the body that has the steps
		outer.InDoubt = once.Hold
	}
	outer.Key, outer.Match, outer.Scope = keys.Func{}, keys.Func{}, 0
	var p once.Policy
	var errs []error
	complain := func(wrong bool, what string) {
		if wrong {
			errs = append(errs, errors.New(what))
		}
	}
	complain(len(step.Policy) > 1, "the step has more than one policy")
	complain(step.Body == nil, "the step has no function")
	if len(step.Policy) > 0 {
		p = step.Policy[0]
	}
	complain(!p.Key.IsZero() || !p.Match.IsZero() || p.Scope != 0, "the policy of a step has no Key, Match or Scope: its key is the call's, and its name")
	p.Key, p.Match, p.Scope = keys.Func{}, keys.Func{}, 0
	complain(p.OnDuplicate == once.Reject, "OnDuplicate Reject refuses a step that another run has finished: take Return or Wait")
	complain(p.InDoubt == once.Resume, "InDoubt Resume is for the call that has the steps: take Rerun or Reconcile")
	errs = append(errs, p.Validate(), s.fits(p, step.Out))
	p = p.Or(outer)
	p.Scope, p.TTL = keys.PerNamespace, max(p.TTL, outer.TTL)
	return p, errors.Join(errs...)
}

// fits reports what is wrong with a Reconcile function of a step, which takes the first
// argument of the call. Of one that decodes itself the type is not known.
func (s *steps) fits(p once.Policy, out reflect.Type) error {
	in := reflect.TypeFor[struct{}]()
	if args := s.call.Args; len(args) > 0 {
		if _, decodes := args[0].(interface{ Get(ptrs ...any) error }); decodes || args[0] == nil {
			return nil
		}
		in = reflect.TypeOf(args[0])
	}
	return p.Check(reflect.FuncOf([]reflect.Type{reflect.TypeFor[context.Context](), in}, []reflect.Type{out, reflect.TypeFor[error]()}, false))
}

// stepDoor is the door of a call for a step of it.
type stepDoor struct {
	Door
	steps *steps
	step  Step
	token func() string // of the call

	unsure bool // it has given an error that leaves open what the step did
}

// Encode implements Door: the body gets the value itself.
func (d *stepDoor) Encode(ctx context.Context, result any) (store.Outcome, any, error) {
	o, _, err := d.Door.Encode(ctx, result)
	return o, result, err
}

// Decode implements Door: the body gets a value of the type of the step.
func (d *stepDoor) Decode(ctx context.Context, o store.Outcome) (result any, failure, broken error) {
	into := reflect.New(d.step.Out)
	failure, broken = d.DecodeInto(ctx, o, into.Interface())
	return into.Elem().Interface(), failure, broken
}

// Refuse implements Door. That the step was not run does not say that the call was not.
func (d *stepDoor) Refuse(ctx context.Context, r Refusal) error {
	r.Untouched = false
	if d.step.Name != "" {
		r.Activity += " " + d.step.Name
	}
	err := d.Door.Refuse(ctx, r)
	switch r.Reason {
	case once.InFlight, once.Mismatch, once.StoreDown, once.BadKey, once.BadSetup:
		d.steps.refuse(err)
	default:
		d.unsure = true
	}
	return err
}

// IsPending implements Door: a step ends when its function returns.
func (d *stepDoor) IsPending(error) bool { return false }

// Token implements Door: it is the call that is reported from outside.
func (d *stepDoor) Token(store.Bid, store.Origin, bool) string {
	if d.token == nil {
		return ""
	}
	return d.token()
}
