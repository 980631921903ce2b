package interceptor_test

import (
	"bytes"
	"context"
	"path"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/observe"
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

		"a struct":                             {marks: marking(&chargers{}), registered: is(c), call: "Process", want: guards},
		"a struct, not another one":            {marks: marking(&chargers{}), registered: two(c, m), call: "b_Process", want: ignores},
		"a struct, as a value":                 {marks: marking(chargers{}), registered: is(c), call: "Process", want: guards},
		"a struct, by one method":              {marks: marking(&chargers{}), registered: is(c.Process), call: "Process", want: guards},
		"a struct, wrapped":                    {marks: marking(&mixed{}), registered: append(is(&mixed{}), registered{c, "a_"})[1:], want: atStart, says: `activity "Process" is marked as github.com/atmostonce/atmostonce/interceptor_test.(*mixed).Process but registered with no worker`},
		"a struct with other methods":          {marks: marking(&mixed{}), registered: is(&mixed{}), call: "Other", args: []any{"7"}, want: guards},
		"a struct without an activity":         {marks: marking(&noActivities{}), want: atNew, says: "no method of it is an activity"},
		"a struct that does not fit":           {marks: once.Mark(once.Policy{Key: keys.From(byOrder), Scope: keys.PerWorkflow}, &mixed{}), want: atNew, says: "method Other: Key: keys: the key function wants interceptor_test.charge, but the argument is of type string"},
		"a struct that is renamed":             {marks: marking(once.As("Old", &chargers{})), want: atNew, says: "it renames one activity"},
		"a struct and a method of it":          {marks: append(marking(&mixed{}), once.Exempt((*mixed).Other)...), registered: is(&mixed{}), call: "Other", args: []any{"7"}, want: ignores},
		"a struct and a name of it":            {marks: append(marking(&mixed{}), once.Exempt("Other")...), registered: is(&mixed{}), call: "Other", args: []any{"7"}, want: ignores},
		"a method of an exempt struct":         {marks: append(marking((*mixed).Process), once.Exempt(&mixed{})...), registered: is(&mixed{}), call: "Process", want: guards},
		"another of an exempt struct":          {marks: append(marking((*mixed).Process), once.Exempt(&mixed{})...), registered: is(&mixed{}), call: "Other", args: []any{"7"}, want: ignores},
		"two structs that embed one":           {marks: marking(&embeds{}, &embedsIt{}), registered: two(&embeds{c}, &embedsIt{}), call: "b_Process", want: guards},
		"two of them, with two policies":       {marks: append(marking(&embeds{}), once.Mark(once.Policy{InDoubt: once.Fail}, &embedsIt{})...), want: atNew, says: "activity Process: marked twice"},
		"a method expression with a typed key": {marks: once.Mark(once.Policy{Key: keys.From(byOrder), Scope: keys.PerWorkflow}, (*chargers).Process), registered: is(c), call: "Process", want: guards},
		"a method expression with another key": {marks: once.Mark(once.Policy{Key: keys.From(func(in string) string { return in }), Scope: keys.PerWorkflow}, (*chargers).Process), want: atNew, says: "the key function wants string, but the argument is of type interceptor_test.charge"},
		"a struct twice":                       {marks: append(marking(&mixed{}), once.Exempt(&mixed{})...), want: atNew, says: "activity Process: marked twice"},
		"a method twice":                       {marks: marking(c.Process, (*chargers).Process), want: atNew, says: "activity Process: marked twice"},
		"a promoted method twice":              {marks: marking(c.Process, (&deeper{}).Process), want: atNew, says: "activity Process: marked twice"},
		"a method and its name":                {marks: marking(c.Process, "Process"), registered: is(c), want: atStart, says: "activity Process is marked twice: by function and by name"},
		"a method and another's name":          {marks: marking(c.Process, "Process"), registered: []registered{{c.Process, "Charge"}, {m, ""}}, call: "Process", want: guards},
		"a name, by a dynamic activity":        {marks: marking("Process"), dynamic: true, call: "Process", want: guards},
		"a function, by a dynamic one":         {marks: marking(c.Process), dynamic: true, want: atStart, says: "registered with no worker"},
		"a dynamic one besides":                {marks: marking(c.Process), registered: as(c, "a_"), dynamic: true, call: "Process", want: ignores},
		"nothing":                              {want: atNew, says: "Options.Activities is empty"},
		"nothing that is not exempt":           {marks: once.Exempt(c.Process), want: atNew, says: "mark the activities that act on the world"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.run(t)
		})
	}
}

func (tc markCase) run(t *testing.T) {
	t.Helper()
	events := newWatch(observe.KindClaim)
	o := options(tc.marks)
	o.Observers = []observe.Observer{events}
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
