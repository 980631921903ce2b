package interceptor

import (
	"testing"

	"github.com/stretchr/testify/require"
)

type panicking struct{}

func (*panicking) MarshalJSON() ([]byte, error) { panic("a nil pointer, say") }

func TestInputOf_NeverStopsAWorkflow(t *testing.T) {
	t.Parallel()
	type ring struct{ Next *ring }
	endless := &ring{}
	endless.Next = endless
	for name, args := range map[string][]any{
		"a channel": {make(chan int)}, "a function": {7, func() {}}, "a panic": {&panicking{}}, "no end": {endless},
	} {
		require.Empty(t, inputOf(args), name)
	}
	require.NotEmpty(t, inputOf(nil))
	require.NotEqual(t, inputOf(nil), inputOf([]any{nil}))
}

func BenchmarkInputOf(b *testing.B) {
	type item struct {
		Order string
		Cents int
		Lines []string
	}
	small := []any{item{"order-7", 1200, nil}}
	large := make([]item, 1000)
	for i := range large {
		large[i] = item{"order-7", i, []string{"a line of the order", "and another one"}}
	}
	for name, args := range map[string][]any{"small": small, "80KB": {large}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				inputOf(args)
			}
		})
	}
}
