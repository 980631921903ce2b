package interceptor_test

import (
	"bytes"
	"context"
	"errors"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/store"
)

// Two structs with one method.

type chargers struct{ calls atomic.Int32 }

func (c *chargers) Process(_ context.Context, in charge) (receipt, error) {
	c.calls.Add(1)
	return receipt{ID: in.Order}, nil
}

type mailers struct{ calls atomic.Int32 }

func (m *mailers) Process(_ context.Context, in charge) (receipt, error) {
	m.calls.Add(1)
	return receipt{ID: in.Order}, nil
}

type processor interface {
	Process(ctx context.Context, in charge) (receipt, error)
}

// Structs that get the method from another one.

type (
	embeds    struct{ *chargers }
	embedsIt  struct{ chargers }
	deeper    struct{ embeds }
	either    struct{ processor }
	overrides struct{ *chargers }
	nearest   struct {
		deeper
		*mailers
	}
	recursive struct {
		*recursive
		*chargers
	}
)

func (o *overrides) Process(ctx context.Context, in charge) (receipt, error) {
	return o.chargers.Process(ctx, in)
}

// values has a value receiver.
type values struct{}

func (values) Process(_ context.Context, in charge) (receipt, error) {
	return receipt{ID: in.Order}, nil
}

type embedsValues struct{ *values }

// box is generic, and its method does not show it.
type box[T any] struct{}

func (*box[T]) Process(_ context.Context, in charge) (receipt, error) {
	return receipt{ID: in.Order}, nil
}

type (
	intBox        = box[int]
	embedsBox     struct{ box[int] }
	filled[T any] struct{ *box[T] }
)

func (f *filled[T]) Process(ctx context.Context, in charge) (receipt, error) {
	return f.box.Process(ctx, in)
}

// mixed has methods of every kind.
type mixed struct{ notAll }

type notAll struct{}

func (*notAll) NotAnActivity() int              { return 0 }
func (*notAll) Channel() (chan int, error)      { return nil, nil }
func (*notAll) Workflow(workflow.Context) error { return nil }
func (*mixed) Process(_ context.Context, in charge) (receipt, error) {
	return receipt{ID: in.Order}, nil
}
func (*mixed) Other(_ context.Context, in string) (string, error) { return in, nil }

type noActivities struct{}

func (*noActivities) NotAnActivity() int { return 0 }

// wrapped is the usual decorator.
func wrapped[In, Out any](f func(context.Context, In) (Out, error)) func(context.Context, In) (Out, error) {
	return func(ctx context.Context, in In) (Out, error) { return f(ctx, in) }
}

// registered is what a worker registers, and under which name or prefix.
type registered struct {
	fn   any
	name string
}

func (r registered) options() sdkactivity.RegisterOptions {
	return sdkactivity.RegisterOptions{Name: r.name, SkipInvalidStructFunctions: true}
}

const (
	guards  = "is guarded"
	ignores = "is not guarded"
	atNew   = "New refuses"
	atStart = "the worker does not start"
	atCall  = "the call is refused"
)

type markCase struct {
	marks      []once.Marked
	registered []registered
	dynamic    bool
	call       string // an activity type
	args       []any  // order(7), if there are none
	want       string
	says       string // in the error
}

func marking(activities ...any) []once.Marked { return once.Mark(once.Policy{}, activities...) }

func TestMark_GuardsExactlyWhatItNames(t *testing.T) {
	t.Parallel()
	c, m, v := &chargers{}, &mailers{}, values{}
	var some processor = c
	as := func(fn any, name string) []registered { return []registered{{fn, name}} }
	is := func(fn ...any) (all []registered) {
		for _, fn := range fn {
			all = append(all, registered{fn, ""})
		}
		return all
	}
	two := func(first, second any) []registered { return []registered{{first, "a_"}, {second, "b_"}} }
	byPath := []any{"*", "x"}
	for name, tc := range map[string]markCase{
		"a wrapper under the function's name": {marks: marking(c.Process), registered: as(wrapped(c.Process), "Process"), call: "Process",
			want: atStart, says: `If that wraps the marked one, mark the name "Process" instead`},
		"a struct with a method of that name": {marks: marking(c.Process), registered: two(c, m), call: "b_Process", want: ignores},
		"the struct that is marked":           {marks: marking(c.Process), registered: two(c, m), call: "a_Process", want: guards},

		"only a struct with a method of that name": {marks: marking(c.Process), registered: is(m), want: atStart,
			says: "interceptor_test.(*chargers).Process, but registered is another function, github.com/atmostonce/atmostonce/interceptor_test.(*mailers).Process."},
		"a wrapper, by its name":             {marks: marking("Process"), registered: as(wrapped(c.Process), "Process"), call: "Process", want: guards},
		"a wrapper under another name":       {marks: marking(c.Process), registered: as(wrapped(c.Process), "Charge"), want: atStart, says: "mark the registered name"},
		"a method by another's name":         {marks: marking(c.Process), registered: []registered{{m.Process, "Process"}, {c.Process, "Charge"}}, call: "Process", want: ignores},
		"a method under another name":        {marks: marking(c.Process), registered: []registered{{m.Process, "Process"}, {c.Process, "Charge"}}, call: "Charge", want: guards},
		"a name that has a prefix":           {marks: marking("Process"), registered: as(c, "a_"), want: atStart, says: `is registered as "a_Process"`},
		"a typo":                             {marks: marking("Porcess"), registered: is(c), want: atStart, says: "registered with no worker of this guard"},
		"a method made by reflection":        {marks: marking(c.Process), registered: as(reflect.ValueOf(c).Method(0).Interface(), "Process"), want: atStart, says: "methodValueCall"},
		"a mark of one made by reflection":   {marks: marking(reflect.ValueOf(c).Method(0).Interface()), want: atNew, says: "has no name of its own"},
		"a function of another package":      {marks: marking(path.Match), registered: []registered{{path.Match, "a"}, {filepath.Match, "b"}}, call: "b", args: byPath, want: ignores},
		"the function of the package":        {marks: marking(path.Match), registered: []registered{{path.Match, "a"}, {filepath.Match, "b"}}, call: "a", args: byPath, want: guards},
		"a type of one name":                 {marks: marking((*bytes.Reader)(nil).UnreadByte), registered: two(bytes.NewReader(nil), strings.NewReader("")), call: "b_UnreadByte", args: []any{}, want: ignores},
		"the type of the package":            {marks: marking((*bytes.Reader)(nil).UnreadByte), registered: two(bytes.NewReader(nil), strings.NewReader("")), call: "a_UnreadByte", args: []any{}, want: guards},
		"a nil value":                        {marks: marking((*chargers)(nil).Process), registered: is(c), call: "Process", want: guards},
		"a method expression":                {marks: marking((*chargers).Process), registered: two(c, m), call: "a_Process", want: guards},
		"another struct than the expression": {marks: marking((*chargers).Process), registered: two(c, m), call: "b_Process", want: ignores},
		"an expression that is registered": {marks: marking(c.Process), registered: is((*chargers).Process), want: atStart,
			says: "registered by a method expression, so that the receiver is the first input"},
		"the name of such an expression": {marks: marking("Process"), registered: is((*chargers).Process), call: "Process", args: []any{c, nil, order(7)}, want: guards},

		"a promoted method":                  {marks: marking(c.Process), registered: is(&embeds{c}), call: "Process", want: guards},
		"a promoted method of a value":       {marks: marking(c.Process), registered: is(&embedsIt{}), call: "Process", want: guards},
		"a method promoted twice":            {marks: marking(c.Process), registered: is(&deeper{embeds{c}}), call: "Process", want: guards},
		"a promoted method, of itself":       {marks: marking((&embeds{c}).Process), registered: is(&embeds{c}), call: "Process", want: guards},
		"a promoted method, elsewhere":       {marks: marking((&embeds{c}).Process), registered: is(c), call: "Process", want: guards},
		"an expression of a promoted method": {marks: marking((*embeds).Process), registered: is(&deeper{}), call: "Process", want: guards},
		"the nearest of two":                 {marks: marking(m.Process), registered: is(&nearest{deeper{embeds{c}}, m}), call: "Process", want: guards},
		"not the nearest of two":             {marks: marking(c.Process), registered: append(is(&nearest{deeper{embeds{c}}, m}), registered{c, "a_"}), call: "Process", want: ignores},
		"a struct that embeds itself":        {marks: marking(c.Process), registered: is(&recursive{nil, c}), call: "Process", want: guards},
		"a struct without a name":            {marks: marking(c.Process), registered: is(&struct{ *chargers }{c}), call: "Process", want: guards},
		"a method that is overridden":        {marks: marking(c.Process), registered: append(is(&overrides{c}), registered{c, "a_"}), call: "Process", want: ignores},
		"a method that overrides":            {marks: marking((&overrides{c}).Process), registered: two(c, &overrides{c}), call: "b_Process", want: guards},
		"what a method overrides":            {marks: marking((&overrides{c}).Process), registered: two(c, &overrides{c}), call: "a_Process", want: ignores},

		"a value receiver":                           {marks: marking(v.Process), registered: is(&v), call: "Process", want: guards},
		"a value receiver, promoted":                 {marks: marking(v.Process), registered: is(&embedsValues{&v}), call: "Process", want: guards},
		"a value receiver, by expression":            {marks: marking(values.Process), registered: is(v.Process), call: "Process", want: guards},
		"a value receiver, by a pointer's":           {marks: marking((*values).Process), registered: is(v.Process), call: "Process", want: guards},
		"a value receiver, by struct":                {marks: marking(v), registered: is((&v).Process), call: "Process", want: guards},
		"a value receiver, or an interface":          {marks: marking(v.Process), registered: is(v.Process), want: atStart, says: "If that is an interface, another activity may implement it too"},
		"an interface's method":                      {marks: marking(some.Process), registered: is(some.Process), want: atStart, says: "If that is an interface, another activity may implement it too"},
		"an interface's method, of a struct":         {marks: marking(some.Process), registered: is(c), want: atStart, says: "mark the name \"Process\" instead"},
		"an interface's method, with a prefix":       {marks: marking(some.Process), registered: as(c, "a_"), want: atStart, says: "interceptor_test.processor is an interface, mark the method of the concrete type"},
		"an interface's expression":                  {marks: marking(processor.Process), want: atNew, says: "mark the method of the concrete type"},
		"an embedded interface, by its own":          {marks: marking((&either{c}).Process), registered: is(&either{c}), want: atStart, says: "mark the name"},
		"an embedded interface, by what is in it":    {marks: marking(c.Process), registered: append(is(&either{c}), registered{c, "a_"}), call: "Process", want: ignores},
		"an embedded interface, by struct":           {marks: marking(&either{}), registered: is(&either{c}), call: "Process", want: guards},
		"an embedded interface, by expression":       {marks: marking((*either).Process), registered: is(&either{c}), call: "Process", want: guards},
		"a struct with a generic method":             {marks: marking(&box[int]{}), registered: two(&box[int]{}, &box[string]{}), call: "a_Process", want: guards},
		"another instance":                           {marks: marking(&box[int]{}), registered: two(&box[int]{}, &box[string]{}), call: "b_Process", want: ignores},
		"an expression of an instance":               {marks: marking((*box[int]).Process), registered: two(&box[int]{}, &box[string]{}), call: "a_Process", want: guards},
		"not the expression's instance":              {marks: marking((*box[int]).Process), registered: two(&box[int]{}, &box[string]{}), call: "b_Process", want: ignores},
		"an alias":                                   {marks: marking(&intBox{}), registered: is(&embedsBox{}), call: "Process", want: guards},
		"a generic method that overrides":            {marks: marking(&box[int]{}), registered: two(&box[int]{}, &filled[int]{}), call: "b_Process", want: ignores},
		"a method value of an instance":              {marks: marking((&box[int]{}).Process), want: atNew, says: "does not show the type arguments"},
		"a method value of an instance, as an alias": {marks: marking((&intBox{}).Process), want: atNew, says: "does not show the type arguments"},
		"a generic function":                         {marks: marking(generic[int]), want: atNew, says: "activity github.com/atmostonce/atmostonce/interceptor_test.generic[...]: a closure or generic function"},
		"a closure":                                  {marks: marking(wrapped(c.Process)), want: atNew, says: "a closure or generic function has no name of its own"},

		"a struct":                      {marks: marking(&chargers{}), registered: is(c), call: "Process", want: guards},
		"a struct, not another one":     {marks: marking(&chargers{}), registered: two(c, m), call: "b_Process", want: ignores},
		"a struct, as a value":          {marks: marking(chargers{}), registered: is(c), call: "Process", want: guards},
		"a struct, by one method":       {marks: marking(&chargers{}), registered: is(c.Process), call: "Process", want: guards},
		"a struct, wrapped":             {marks: marking(&mixed{}), registered: append(is(&mixed{}), registered{c, "a_"})[1:], want: atStart, says: `activity "Process" is marked as github.com/atmostonce/atmostonce/interceptor_test.(*mixed).Process but registered with no worker`},
		"a struct with other methods":   {marks: marking(&mixed{}), registered: is(&mixed{}), call: "Other", args: []any{"7"}, want: guards},
		"a struct without an activity":  {marks: marking(&noActivities{}), want: atNew, says: "no method of it is an activity"},
		"a struct that does not fit":    {marks: once.Mark(once.Policy{Key: keys.From(byOrder), Scope: keys.PerWorkflow}, &mixed{}), want: atNew, says: "method Other: Key: keys: the key function wants interceptor_test.charge, but the activity takes string"},
		"a struct that is renamed":      {marks: marking(once.As("Old", &chargers{})), want: atNew, says: "it renames one activity"},
		"a struct and a method of it":   {marks: append(marking(&mixed{}), once.Exempt((*mixed).Other)...), registered: is(&mixed{}), call: "Other", args: []any{"7"}, want: ignores},
		"a struct and a name of it":     {marks: append(marking(&mixed{}), once.Exempt("Other")...), registered: is(&mixed{}), call: "Other", args: []any{"7"}, want: ignores},
		"a method of an exempt struct":  {marks: append(marking((*mixed).Process), once.Exempt(&mixed{})...), registered: is(&mixed{}), call: "Process", want: guards},
		"another of an exempt struct":   {marks: append(marking((*mixed).Process), once.Exempt(&mixed{})...), registered: is(&mixed{}), call: "Other", args: []any{"7"}, want: ignores},
		"a struct twice":                {marks: append(marking(&mixed{}), once.Exempt(&mixed{})...), want: atNew, says: "activity Process: marked twice"},
		"a method twice":                {marks: marking(c.Process, (*chargers).Process), want: atNew, says: "activity Process: marked twice"},
		"a promoted method twice":       {marks: marking(c.Process, (&deeper{}).Process), want: atNew, says: "activity Process: marked twice"},
		"a method and its name":         {marks: marking(c.Process, "Process"), registered: is(c), want: atStart, says: "activity Process is marked twice: by function and by name"},
		"a method and another's name":   {marks: marking(c.Process, "Process"), registered: []registered{{c.Process, "Charge"}, {m, ""}}, call: "Process", want: guards},
		"a name, by a dynamic activity": {marks: marking("Process"), dynamic: true, call: "Process", want: guards},
		"a function, by a dynamic one":  {marks: marking(c.Process), dynamic: true, want: atStart, says: "registered with no worker"},
		"a dynamic one besides":         {marks: marking(c.Process), registered: as(c, "a_"), dynamic: true, call: "Process", want: ignores},
		"nothing":                       {want: atNew, says: "Options.Activities is empty"},
		"nothing that is not exempt":    {marks: once.Exempt(c.Process), want: atNew, says: "mark the activities that act on the world"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.run(t)
		})
	}
}

func (tc markCase) run(t *testing.T) {
	t.Helper()
	events := newWatch(interceptor.Claim)
	o := options(tc.marks)
	o.Observers = []interceptor.Observer{events}
	g, err := interceptor.New(memory(), o)
	if tc.want == atNew {
		require.ErrorContains(t, err, tc.says)
		return
	}
	require.NoError(t, err)
	dynamic := func(context.Context, converter.EncodedValues) (receipt, error) { return receipt{}, nil }
	err = startError(t, g, func(r worker.Registry) {
		for _, a := range tc.registered {
			r.RegisterActivityWithOptions(a.fn, a.options())
		}
		if tc.dynamic {
			r.RegisterDynamicActivity(dynamic, sdkactivity.DynamicRegisterOptions{})
		}
	})
	if tc.want == atStart {
		require.ErrorContains(t, err, atStart)
		require.ErrorContains(t, err, tc.says)
		return
	}
	requireUnreachable(t, err)
	env := environment(t, g)
	for _, a := range tc.registered {
		env.RegisterActivityWithOptions(a.fn, a.options())
	}
	if tc.dynamic {
		env.RegisterDynamicActivity(dynamic, sdkactivity.DynamicRegisterOptions{})
	}
	args := tc.args
	if args == nil {
		args = []any{order(7)}
	}
	_, _ = env.ExecuteActivity(tc.call, args...) // some fail, as they would without a guard
	if tc.want == ignores {
		require.Empty(t, events.begun)
		return
	}
	require.Len(t, events.begun, 1)
	require.Equal(t, tc.call, receive(t, events.begun).Activity)
}

// Two methods of one name have each its own policy.
func TestMark_TwoMethodsOfOneName(t *testing.T) {
	t.Parallel()
	s := memory()
	g := newGuard(t, s, options(
		once.Mark(once.Policy{OnFailure: once.Lock}, (*failing).Process),
		once.Mark(once.Policy{OnFailure: once.Unlock}, (*failingToo).Process)))
	env := environment(t, g)
	env.RegisterActivityWithOptions(&failing{}, sdkactivity.RegisterOptions{Name: "a_"})
	env.RegisterActivityWithOptions(&failingToo{}, sdkactivity.RegisterOptions{Name: "b_"})
	states := map[string]store.State{}
	for _, name := range []string{"a_Process", "b_Process"} {
		_, err := env.ExecuteActivity(name, order(7))
		require.ErrorContains(t, err, "declined")
	}
	for _, r := range records(t, s) {
		states[r.Info.Activity] = r.State
	}
	require.Equal(t, map[string]store.State{"a_Process": store.Failed, "b_Process": store.Tombstone}, states)
}

type failing struct{}

func (*failing) Process(context.Context, charge) error { return errors.New("declined") }

type failingToo struct{}

func (*failingToo) Process(context.Context, charge) error { return errors.New("declined") }

// What one worker of the guard serves need not be registered with the others.
func TestStart_FindsFunctionsOfAnotherWorker(t *testing.T) {
	t.Parallel()
	start := func(second any) error {
		g := newGuard(t, memory(), options(marking((*chargers).Process, &mailers{})))
		w, other := lazyWorker(t, []client.Plugin{g}, worker.Options{}), lazyWorker(t, []client.Plugin{g}, worker.Options{})
		w.RegisterActivity(&chargers{})
		other.RegisterActivity(second)
		return w.Start()
	}
	requireUnreachable(t, start(&mailers{}))
	err := start(&payments{})
	require.ErrorContains(t, err, "(*mailers).Process but registered with no worker of this guard")
	require.NotContains(t, err.Error(), "another function", "that one has a mark of its own")
}

// What was registered and then replaced does not count.
func TestStart_SeesWhatReplacesARegistration(t *testing.T) {
	t.Parallel()
	c := &chargers{}
	g := newGuard(t, memory(), options(marking(c.Process)))
	err := startError(t, g, func(r worker.Registry) {
		r.RegisterActivity(c)
		r.RegisterActivityWithOptions(wrapped(c.Process), sdkactivity.RegisterOptions{Name: "Process", DisableAlreadyRegisteredCheck: true})
	})
	require.ErrorContains(t, err, "If that wraps the marked one")
}

func TestStrict_TakesStructs(t *testing.T) {
	t.Parallel()
	o := options(marking((*mixed).Process), once.Exempt(&mixed{}))
	o.Strict = true
	register := func(r worker.Registry) {
		r.RegisterActivityWithOptions(&mixed{}, registered{}.options())
	}
	requireUnreachable(t, startError(t, newGuard(t, memory(), o), register))
	o.Activities = marking((*mixed).Process)
	err := startError(t, newGuard(t, memory(), o), register)
	require.ErrorContains(t, err, "activity Other is neither marked nor exempt")
	require.NotContains(t, err.Error(), "NotAnActivity", "the SDK does not register it")
}

// A plain interceptor sees the type's name only.
func TestMark_WithoutAPlugin(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		mark any
		want string
	}{
		"by name":          {"Process", guards},
		"by function":      {(*chargers).Process, atCall},
		"of another input": {(*mixed).Other, ignores},
		"of another name":  {(*payments).ChargeCard, ignores},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, c := memory(), &chargers{}
			env := environment(t)
			env.SetWorkerOptions(worker.Options{Interceptors: []sdkinterceptor.WorkerInterceptor{newGuard(t, s, options(marking(tc.mark)))}})
			env.RegisterActivity(c)
			_, err := env.ExecuteActivity("Process", order(7))
			if tc.want == atCall {
				require.True(t, once.Is(err, once.BadSetup))
				require.ErrorContains(t, err, "without a plugin the guard sees no registrations")
				require.Zero(t, c.calls.Load())
				return
			}
			require.NoError(t, err)
			require.Len(t, records(t, s), map[string]int{guards: 1, ignores: 0}[tc.want])
		})
	}
	t.Run("beside the plugin", func(t *testing.T) {
		t.Parallel()
		s, c := memory(), &chargers{}
		g := newGuard(t, s, options(marking(c.Process)))
		env := environment(t)
		env.SetWorkerOptions(worker.Options{Interceptors: []sdkinterceptor.WorkerInterceptor{g}, Plugins: []worker.Plugin{g}})
		env.RegisterActivity(c)
		for range 2 {
			_, err := env.ExecuteActivity("Process", order(7))
			require.NoError(t, err)
		}
		require.EqualValues(t, 1, c.calls.Load())
	})
}

// localCase is a local activity, passed as a function or by name.
type localCase struct {
	marks      []once.Marked
	registered []registered
	call       any
	arg        any
	want       string
	activity   string
}

func TestMark_LocalActivities(t *testing.T) {
	t.Parallel()
	c, m, v := &chargers{}, &mailers{}, values{}
	for name, tc := range map[string]localCase{
		"registered, a method":           {marking(c.Process), []registered{{c, ""}}, c.Process, order(7), guards, "Process"},
		"registered, by its name":        {marking(c.Process), []registered{{c, ""}}, "Process", order(7), guards, "Process"},
		"registered under another name":  {marking(c.Process), []registered{{c.Process, "Charge"}}, c.Process, order(7), guards, "Charge"},
		"registered, a function":         {marking(plainFunction), []registered{{plainFunction, ""}}, plainFunction, order(7), guards, "plainFunction"},
		"marked by the name of another":  {marking("Process"), []registered{{c, ""}}, v.Process, order(7), guards, "Process"},
		"marked by name, not registered": {marking("Process", "Charge"), []registered{{c.Process, "Charge"}, {c, ""}}, v.Process, order(7), guards, "Charge"},

		// What runs is c.Process, since the SDK looks up methods of pointers by name.
		"another method of a pointer": {marking(c.Process), []registered{{c, ""}}, m.Process, order(7), guards, "Process"},
		// What runs is what is passed; its input shows that it is not what is marked.
		"a function of other input": {marking(c.Process), []registered{{c, ""}}, otherProcess.Process, "7", ignores, ""},

		"not registered":                        {marking(c.Process), []registered{{c, "a_"}}, c.Process, order(7), atCall, "Process"},
		"not registered, a namesake":            {marking(c.Process), []registered{{c, "a_"}}, v.Process, order(7), atCall, "Process"},
		"not registered, of other input":        {marking(c.Process), []registered{{c, "a_"}}, otherProcess.Process, "7", ignores, ""},
		"not registered, of another name":       {marking(c.Process), []registered{{c, "a_"}}, plainFunction, order(7), ignores, ""},
		"not registered, exempt":                {append(marking(c.Process), once.Exempt("Process")...), []registered{{c, "a_"}}, v.Process, order(7), ignores, ""},
		"under the name of another":             {marking(values.Process), []registered{{&v, "a_"}, {m, ""}}, v.Process, order(7), atCall, "Process"},
		"under the alias of another":            {marking(values.Process), []registered{{&v, ""}, {m.Process, "Mail"}}, v.Process, order(7), atCall, "Mail"},
		"another, by its name":                  {marking(c.Process), []registered{{c, "a_"}, {m, ""}}, "Process", order(7), ignores, ""},
		"the name of another is exempt":         {append(marking(values.Process), once.Exempt("Process")...), []registered{{&v, "a_"}, {m, ""}}, "Process", order(7), ignores, ""},
		"a function of another mark":            {append(marking(values.Process), once.Mark(once.Policy{OnFailure: once.Lock}, m.Process)...), []registered{{&v, "a_"}, {m, ""}}, v.Process, order(7), atCall, "Process"},
		"a struct that may be called by itself": {marking(&v), []registered{{&v, "a_"}, {m, ""}}, v.Process, order(7), atCall, "Process"},
	} {
		for _, mode := range []interceptor.Mode{interceptor.Enforce, interceptor.Observe, interceptor.Off} {
			t.Run(name+", "+mode.String(), func(t *testing.T) {
				t.Parallel()
				tc.run(t, mode)
			})
		}
	}
}

// otherProcess has a method of the same name, with other input.
var otherProcess textProcess

type textProcess struct{}

func (textProcess) Process(_ context.Context, in string) (receipt, error) {
	return receipt{ID: in}, nil
}

func (tc localCase) run(t *testing.T, mode interceptor.Mode) {
	t.Helper()
	s, events := memory(), newWatch(interceptor.Notice)
	o := options(tc.marks)
	o.Mode = func(string) interceptor.Mode { return mode }
	o.Observers = []interceptor.Observer{events}
	env := guardedWorkflows(t, newGuard(t, s, o))
	for _, a := range tc.registered {
		env.RegisterActivityWithOptions(a.fn, a.options())
	}
	env.ExecuteWorkflow(func(ctx workflow.Context) error {
		ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{ScheduleToCloseTimeout: 5 * time.Second})
		return workflow.ExecuteLocalActivity(ctx, tc.call, tc.arg).Get(ctx, nil)
	})
	err := env.GetWorkflowError()
	if tc.want == atCall && mode == interceptor.Enforce {
		require.True(t, once.Is(err, once.BadSetup), "%v", err)
		require.ErrorContains(t, err, "bad set-up: "+tc.activity+" was not run")
		require.ErrorContains(t, err, "or mark or exempt the name")
		require.Empty(t, records(t, s))
		return
	}
	require.NoError(t, err)
	if tc.want == guards && mode != interceptor.Off {
		require.Equal(t, tc.activity, only(t, s).Info.Activity)
		return
	}
	require.Empty(t, records(t, s))
	if tc.want == atCall && mode == interceptor.Observe {
		require.Equal(t, once.BadSetup, receive(t, events.ended).Reason)
	}
}

func TestAll_ObservesWhatHasNoMark(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		marks    []once.Marked
		mode     interceptor.Mode
		activity string
		runs     int
		seen     int
	}{
		"no mark":                {marking(once.All), interceptor.Enforce, "Process", 2, 2},
		"no mark, under Observe": {marking(once.All), interceptor.Observe, "Process", 2, 2},
		"no mark, under Off":     {marking(once.All), interceptor.Off, "Process", 2, 2},
		"a mark of its own":      {marking(once.All, "Process"), interceptor.Enforce, "Process", 1, 2},
		"its struct's mark":      {marking(once.All, &chargers{}), interceptor.Enforce, "Process", 1, 2},
		"exempt":                 {append(marking(once.All), once.Exempt("Process")...), interceptor.Enforce, "Process", 2, 0},
		"a dynamic activity":     {marking(once.All), interceptor.Enforce, "Unknown", 2, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, c, dynamic, events := memory(), &chargers{}, 0, newWatch(interceptor.Claim)
			o := options(tc.marks)
			o.Observers = []interceptor.Observer{events}
			o.Mode = func(string) interceptor.Mode { return tc.mode }
			env := environment(t, newGuard(t, s, o))
			env.RegisterActivity(c)
			env.RegisterDynamicActivity(func(context.Context, converter.EncodedValues) (receipt, error) {
				dynamic++
				return receipt{}, nil
			}, sdkactivity.DynamicRegisterOptions{})
			for range 2 {
				_, err := env.ExecuteActivity(tc.activity, order(7))
				require.NoError(t, err)
			}
			require.Equal(t, tc.runs, int(c.calls.Load())+dynamic)
			require.Len(t, events.begun, tc.seen)
			if tc.mode == interceptor.Off {
				require.Empty(t, records(t, s))
			}
		})
	}
	for complaint, marks := range map[string][]once.Marked{
		"one type of input":    once.Mark(once.Policy{Key: keys.From(byOrder), Scope: keys.PerRun}, once.All),
		"activity All: the":    once.Mark(once.Policy{InDoubt: once.Reconcile(findCharge)}, once.All),
		"All cannot be exempt": append(marking("A"), once.Exempt(once.All)...),
		"it renames one":       marking(once.As("A", once.All)),
		"marked twice":         marking(once.All, once.All),
	} {
		_, err := interceptor.New(memory(), options(marks))
		require.ErrorContains(t, err, complaint)
	}
	o := options(marking(once.All))
	o.Strict = true
	err := startError(t, newGuard(t, memory(), o), func(r worker.Registry) { r.RegisterActivity(&chargers{}) })
	require.ErrorContains(t, err, "activity Process is neither marked nor exempt")
}

// The SDK's own activities of a session are nobody's.
func TestAll_LeavesSessionsAlone(t *testing.T) {
	t.Parallel()
	s, c := memory(), &chargers{}
	env := workflowEnvironment(t)
	env.SetWorkerOptions(worker.Options{Plugins: []worker.Plugin{newGuard(t, s, options(marking(once.All)))}, EnableSessionWorker: true})
	env.RegisterActivity(c)
	env.ExecuteWorkflow(func(ctx workflow.Context) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
		ctx, err := workflow.CreateSession(ctx, &workflow.SessionOptions{CreationTimeout: time.Minute, ExecutionTimeout: time.Minute})
		if err != nil {
			return err
		}
		defer workflow.CompleteSession(ctx)
		return workflow.ExecuteActivity(ctx, "Process", order(7)).Get(ctx, nil)
	})
	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, "Process", only(t, s).Info.Activity)
}

// lines keeps what is logged.
type lines struct{ all [][]any }

func (l *lines) Debug(string, ...any) {}
func (l *lines) Info(msg string, fields ...any) {
	l.all = append(l.all, append([]any{"INFO", msg}, fields...))
}
func (l *lines) Warn(msg string, fields ...any) {
	l.all = append(l.all, append([]any{"WARN", msg}, fields...))
}
func (l *lines) Error(string, ...any) {}
func (l *lines) ours() (all [][]any) {
	for _, line := range l.all {
		if strings.HasPrefix(line[1].(string), "atmostonce") {
			all = append(all, line)
		}
	}
	return all
}

func TestStart_SaysWhatIsGuarded(t *testing.T) {
	t.Parallel()
	o := options(once.Mark(once.Policy{OnDuplicate: once.Wait}, (*chargers).Process), once.Mark(once.Policy{InDoubt: once.Fail}, "Served"))
	o.Mode = func(name string) interceptor.Mode {
		if name == "Served" {
			return interceptor.Observe
		}
		return interceptor.Enforce
	}
	g := newGuard(t, checkedStore{memory(), store.ErrUnverified}, o)
	logger := &lines{}
	c, err := client.NewLazyClient(client.Options{HostPort: "127.0.0.1:1", Logger: logger, Plugins: []client.Plugin{g}})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	w := worker.New(c, "queue", worker.Options{})
	w.RegisterActivityWithOptions(&chargers{}, sdkactivity.RegisterOptions{Name: "a_"})
	w.RegisterActivityWithOptions(&mailers{}, sdkactivity.RegisterOptions{Name: "b_"})
	w.RegisterDynamicActivity(func(context.Context, converter.EncodedValues) error { return nil }, sdkactivity.DynamicRegisterOptions{})
	requireUnreachable(t, w.Start())
	require.Equal(t, [][]any{
		{"WARN", "atmostonce: look at the store", "Error", store.ErrUnverified},
		{
			"INFO", "atmostonce: worker starts", "TaskQueue", "queue", "Store", "other",
			"Guarded", "a_Process (Enforce, PerWorkflow, OnDuplicate Wait, OnFailure Unlock, InDoubt Hold), Served (Observe, PerWorkflow, OnDuplicate Return, OnFailure Unlock, InDoubt Fail)",
			"NotGuarded", "b_Process, what the dynamic activity serves besides",
		},
	}, logger.ours())
}

func TestStart_SaysItBriefly(t *testing.T) {
	t.Parallel()
	g := newGuard(t, memory(), options(marking(once.All)))
	logger := &lines{}
	c, err := client.NewLazyClient(client.Options{HostPort: "127.0.0.1:1", Logger: logger, Plugins: []client.Plugin{g}})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	w := worker.New(c, "queue", worker.Options{})
	for n := range 100 {
		w.RegisterActivityWithOptions((&chargers{}).Process, sdkactivity.RegisterOptions{Name: strings.Repeat("x", n+1)})
	}
	requireUnreachable(t, w.Start())
	line := logger.ours()[0]
	guarded := line[slices.Index(line, any("Guarded"))+1].(string)
	require.Less(t, len(guarded), 2100)
	require.Regexp(t, ` and \d+ more$`, guarded)
	require.Contains(t, guarded, "x (Observe, PerWorkflow")
}
