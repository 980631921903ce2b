package e2e

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/once"
)

// Temporal's own retry of an activity goes on behind the step that was finished.
func TestSteps_AreNotRepeatedByARetryOfTemporals(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]once.Policy{
		"after an error that says nothing happened": {},
		"after a doubt, under Resume":               {InDoubt: once.Resume, OnFailure: once.Doubt},
		"after a doubt, under Rerun":                {InDoubt: once.Rerun, OnFailure: once.Doubt},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, client.Options{})
			s.work(p, func(ctx context.Context, in charge) (receipt, error) {
				if err := s.ledger.write(begun, in.Order); err != nil {
					return receipt{}, err
				}
				r, err := atmostonce.Step(ctx, "charge", func(ctx context.Context) (receipt, error) { return s.charge(ctx, in) })
				if err == nil && sdkactivity.GetInfo(ctx).Attempt == 1 {
					err = errors.New("after the step")
				}
				return r, err
			})
			s.served(s.start("one", "one", call{}))
			s.count(2, begun)
			s.count(1, charged)
		})
	}
}

// After a reset the activity runs again, since it failed; the step's result is still
// there.
func TestSteps_AreNotRepeatedByAReset(t *testing.T) {
	t.Parallel()
	s := newScene(t, client.Options{})
	fail := atomic.Bool{}
	fail.Store(true)
	s.work(once.Policy{}, func(ctx context.Context, in charge) (receipt, error) {
		if err := s.ledger.write(begun, in.Order); err != nil {
			return receipt{}, err
		}
		r, err := atmostonce.Step(ctx, "charge", func(ctx context.Context) (receipt, error) { return s.charge(ctx, in) })
		if err == nil && fail.Load() {
			err = temporal.NewNonRetryableApplicationError("after the step", "Declined", nil)
		}
		return r, err
	})
	run := s.start("one", "one", call{})
	require.NotEmpty(t, s.verdict(run).Failure)
	fail.Store(false)
	s.served(s.reset(run))
	s.count(2, begun)
	s.count(1, charged)
}
