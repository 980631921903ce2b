package atmostonce_test

import (
	"context"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// What a guard costs beside the function, on a store in memory.
func BenchmarkFunc(b *testing.B) {
	for _, d := range []once.DuplicatePolicy{once.Return, once.Wait} {
		p := under(func(p *once.Policy) { p.OnDuplicate = d })
		b.Run("first/"+d.String(), func(b *testing.B) {
			charge := benchmarked(b, p)
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n++
				if _, err := charge(b.Context(), event{ID: strconv.Itoa(n)}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("duplicate/"+d.String(), func(b *testing.B) {
			charge := benchmarked(b, p)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := charge(b.Context(), event{ID: "7"}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func benchmarked(b *testing.B, p once.Policy) func(context.Context, event) (receipt, error) {
	b.Helper()
	guard, err := atmostonce.New(store.NewMemory(store.MemoryOptions{}), atmostonce.Options{})
	require.NoError(b, err)
	return atmostonce.Func(guard, "charge", p, echo)
}
