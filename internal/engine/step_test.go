package engine

import (
	"context"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/once"
)

// decodesItself is an argument whose type is not known before it is asked.
type decodesItself struct{}

func (decodesItself) Get(ptrs ...any) error {
	*ptrs[0].(*string) = "decoded"
	return nil
}

// A Reconcile function of a step takes the first argument of the call. One that decodes itself
// fits whatever the function takes, as it does with the call's own.
func TestSteps_AReconcileFunctionFitsTheFirstArgument(t *testing.T) {
	t.Parallel()
	found := ""
	p := once.Policy{InDoubt: once.Reconcile(func(_ context.Context, in string) (int, error) { found = in; return 0, nil })}
	none := once.Policy{InDoubt: once.Reconcile(func(context.Context, struct{}) (int, error) { return 0, nil })}
	for name, c := range map[string]struct {
		args   []any
		policy once.Policy
		fits   bool
	}{
		"its type":                       {[]any{"a", 1}, p, true},
		"another type":                   {[]any{1, "a"}, p, false},
		"one that decodes itself":        {[]any{decodesItself{}}, p, true},
		"one that decodes itself, later": {[]any{1, decodesItself{}}, p, false},
		"nil":                            {[]any{nil}, p, true},
		"no argument":                    {nil, p, false},
		"no argument, and it takes none": {nil, none, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &steps{call: &call{Request: &Request{Args: c.args}}}
			require.Equal(t, c.fits, s.fits(c.policy, reflect.TypeFor[int]()) == nil)
		})
	}
	_, err := p.InDoubt.Find(t.Context(), []any{decodesItself{}})
	require.NoError(t, err)
	require.Equal(t, "decoded", found)
}
