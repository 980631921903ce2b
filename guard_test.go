package atmostonce_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/once"
)

func TestFunc_RunsOnceAndReplays(t *testing.T) {
	t.Parallel()
	runs := 0
	charge := atmostonce.Func(newGuard(t, atmostonce.Options{}), "charge", byID, func(_ context.Context, in event) (receipt, error) {
		runs++
		return receipt{fmt.Sprintf("ch_%s_%d", in.ID, runs)}, nil
	})
	for range 3 {
		r, err := charge(t.Context(), event{ID: "7"})
		require.NoError(t, err)
		require.Equal(t, receipt{"ch_7_1"}, r)
	}
	r, err := charge(t.Context(), event{ID: "8"})
	require.NoError(t, err)
	require.Equal(t, receipt{"ch_8_2"}, r)
}

func TestFunc_WaitsForTheOneThatRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, atmostonce.Options{Defaults: once.Policy{OnDuplicate: once.Wait}})
		var runs atomic.Int32
		charge := atmostonce.Func(g, "charge", byID, func(_ context.Context, in event) (receipt, error) {
			runs.Add(1)
			time.Sleep(10 * time.Second) //nolint:forbidigo // a bubble's clock
			return receipt{"ch_" + in.ID}, nil
		})
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				r, err := charge(t.Context(), event{ID: "7"})
				require.NoError(t, err)
				require.Equal(t, receipt{"ch_7"}, r)
			})
		}
		all.Wait()
		require.EqualValues(t, 1, runs.Load())
		require.NoError(t, g.Close(t.Context()))
	})
}

func TestFunc_InFlightIsAnErrorWithATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, atmostonce.Options{})
		release := make(chan struct{})
		charge := atmostonce.Func(g, "charge", byID, func(_ context.Context, in event) (receipt, error) {
			<-release
			return receipt{"ch_" + in.ID}, nil
		})
		go func() { _, _ = charge(t.Context(), event{ID: "7"}) }()
		synctest.Wait()
		_, err := charge(t.Context(), event{ID: "7"})
		var e *atmostonce.Error
		require.ErrorAs(t, err, &e)
		require.ErrorIs(t, err, once.InFlight)
		require.Positive(t, e.RetryAfter)
		close(release)
		require.NoError(t, g.Close(t.Context()))
	})
}
