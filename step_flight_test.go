package atmostonce_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// What calls of one process share of a key is the record of the call, not that of one of
// its steps.
func TestStep_IsNotWhatWaitersOfItsCallGet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, err := atmostonce.New(store.NewMemory(store.MemoryOptions{}), atmostonce.Options{})
		require.NoError(t, err)
		pay := atmostonce.Func(g, "pay", once.Policy{
			Key: keys.From(func(order string) string { return order }), OnDuplicate: once.Wait, InDoubt: once.Fail,
		}, func(ctx context.Context, order string) (string, error) {
			charge, err := atmostonce.Step(ctx, "charge", func(context.Context) (string, error) {
				<-time.After(time.Second) // all the others wait by now
				return "ch_" + order, nil
			})
			if err != nil {
				return "", err
			}
			if order == "8" {
				return "", once.MaybeDone(errors.New("the line went dead"))
			}
			return "paid by " + charge, nil
		})
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				paid, err := pay(t.Context(), "7")
				require.NoError(t, err)
				require.Equal(t, "paid by ch_7", paid)
			})
			all.Go(func() {
				paid, err := pay(t.Context(), "8")
				require.ErrorIs(t, err, once.InDoubt)
				require.Empty(t, paid)
			})
		}
		all.Wait()
		require.NoError(t, g.Close(t.Context()))
	})
}

// uncomparable is an error whose values cannot be compared by ==, as lists of what is
// wrong with an input are.
type uncomparable []string

func (u uncomparable) Error() string { return strings.Join(u, "; ") }

func TestStep_ThatFailsWithAnErrorThatCannotBeCompared(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]func() error{
		"believed":                  func() error { return uncomparable{"no address"} },
		"said to have done nothing": func() error { return once.NotDone(uncomparable{"no address"}) },
		"in doubt":                  func() error { return once.MaybeDone(uncomparable{"no address"}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, err := atmostonce.New(store.NewMemory(store.MemoryOptions{}), atmostonce.Options{})
			require.NoError(t, err)
			pay := atmostonce.Func(g, "pay", once.Policy{InDoubt: once.Fail}, func(ctx context.Context, _ string) (string, error) {
				return atmostonce.Step(ctx, "charge", func(context.Context) (string, error) { return "", fails() })
			})
			_, err = pay(t.Context(), "7")
			require.ErrorAs(t, err, new(uncomparable))
			require.Equal(t, name == "in doubt", errors.Is(err, once.InDoubt))
			require.NoError(t, g.Close(t.Context()))
		})
	}
}
