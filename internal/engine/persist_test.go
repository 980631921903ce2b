package engine

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
)

// several are the errors of a store that says more than one thing: values of it cannot
// be compared.
type several []error

func (s several) Error() string   { return s[0].Error() }
func (s several) Unwrap() []error { return s }

// answer is an error that is comparable by its type, and not by what it holds.
type answer struct{ error }

func (a answer) Unwrap() error { return a.error }

func TestPersist_ReturnsWhatTheStoreSaidWhenTheContextEnds(t *testing.T) {
	t.Parallel()
	now := store.Record{Revision: 7}
	for name, said := range map[string]error{
		"a sentinel":              store.ErrMoved,
		"what cannot be compared": answer{several{store.ErrMoved}},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		r, err := persist(ctx, context.Background(), func(context.Context) (store.Record, error) {
			cancel()
			return now, said
		})
		require.Equal(t, now, r, name)
		require.ErrorIs(t, err, store.ErrMoved, name)
		require.EqualError(t, err, store.ErrMoved.Error(), name)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := persist(ctx, context.Background(), func(context.Context) (store.Record, error) {
		cancel()
		return store.Record{}, store.ErrFull
	})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, store.ErrFull, "what it said last")
}
