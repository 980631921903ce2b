package atmostonce_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/once"
)

func TestGuard_CloseWaitsForWhatRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, atmostonce.Options{CountRecords: time.Second})
		charge := atmostonce.Func(g, "charge", under(func(p *once.Policy) { p.OnDuplicate = once.Wait }), func(context.Context, event) (receipt, error) {
			time.Sleep(time.Minute) //nolint:forbidigo // a bubble's clock
			return receipt{"ch"}, nil
		})
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { _, err := charge(t.Context(), event{ID: "7"}); first <- err }()
		synctest.Wait()
		go func() { _, err := charge(t.Context(), event{ID: "7"}); second <- err }()
		synctest.Wait()
		began := time.Now()
		closed := make(chan error, 1)
		go func() { closed <- g.Close(t.Context()) }()
		requireRefusal(t, <-second, once.InFlight)
		require.Zero(t, time.Since(began), "who waits is sent away")
		_, err := charge(t.Context(), event{ID: "8"})
		require.Zero(t, refusalOf(t, err, once.BadSetup).RetryAfter)
		require.ErrorContains(t, err, "the guard is closed")
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, g.Close(short), context.DeadlineExceeded, "a second one waits for itself")
		require.NoError(t, <-first)
		require.NoError(t, <-closed)
		require.NoError(t, g.Close(t.Context()))
		require.GreaterOrEqual(t, time.Since(began), time.Minute)
	})
}

func TestGuard_CloseGivesUpTheRestAndLeaksNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // which fails if a goroutine is left
		s := newWatched()
		s.settling = make(chan struct{})
		g := newGuardOver(t, s, atmostonce.Options{CountRecords: time.Second})
		charge := atmostonce.Func(g, "charge", byID, func(_ context.Context, in event) (receipt, error) {
			time.Sleep(time.Duration(len(in.Note)) * time.Second) //nolint:forbidigo // a bubble's clock
			return receipt{"ch"}, nil
		})
		ended := make(chan error, 2)
		for _, in := range []event{{ID: "writes"}, {ID: "runs", Note: "for a while, and longer than Close waits"}} {
			go func() { _, err := charge(t.Context(), in); ended <- err }()
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		err := g.Close(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "calls were not recorded")
		require.LessOrEqual(t, time.Since(began), 7*time.Second)
		require.NoError(t, <-ended)
		require.NoError(t, <-ended)
		require.NoError(t, g.Close(t.Context()))
	})
}
