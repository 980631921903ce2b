package interceptor_test

import (
	"context"
	"errors"
	"io"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	ledger "github.com/atmostonce/atmostonce/internal/effect"
	core "github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// books are a database with a ledger in it, in memory, for one key.
type books struct {
	mu      sync.Mutex
	outcome *ledger.Outcome
	effects int
	call    *ledger.Call // the last one
	err     error        // of the next answer

	says  bool                    // that it has committed
	after func() (receipt, error) // what it does then
}

// ChargeCard is an activity.
func (b *books) ChargeCard(ctx context.Context, _ charge) (receipt, error) {
	if err := b.charge(ctx, receipt{"first"}, b.says); err != nil {
		return receipt{}, err
	}
	return b.after()
}

func (b *books) ID() string { return "shop" }

func (b *books) Decide(ctx context.Context, _ ledger.Run) (ledger.Outcome, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case errors.Is(b.err, context.DeadlineExceeded):
		<-ctx.Done()
		return ledger.Outcome{}, ctx.Err()
	case b.outcome == nil:
		return ledger.Outcome{}, ledger.ErrNotDone
	}
	return *b.outcome, nil
}

func (b *books) Confirm(context.Context, ledger.Run) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.outcome == nil {
		return ledger.ErrMissing
	}
	return b.err
}

// charge has the effect, and says so if it is to.
func (b *books) charge(ctx context.Context, result receipt, says bool) error {
	call, ok := ledger.FromContext(ctx)
	if !ok || !call.Guarded {
		return errors.New("not guarded")
	}
	o, err := call.Encode(ctx, result)
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.outcome, b.call = &o, call
	b.effects++
	b.mu.Unlock()
	if !says {
		return nil
	}
	return call.Committed(o)
}

func (b *books) guard(t *testing.T, s store.Store) *interceptor.Guard {
	t.Helper()
	return newGuard(t, s, options(once.Mark(once.Policy{InDoubt: core.DecidedBy(b)}, "ChargeCard")))
}

func TestLedger_ItsOutcomeIsTheAnswerOfAnActivity(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		says  bool
		after func() (receipt, error)
	}{
		"its result":              {true, func() (receipt, error) { return receipt{"first"}, nil }},
		"an error":                {true, func() (receipt, error) { return receipt{}, temporal.NewNonRetryableApplicationError("no", "No", nil) }},
		"a panic":                 {true, func() (receipt, error) { panic("at the disco") }},
		"the end outside":         {true, func() (receipt, error) { return receipt{}, sdkactivity.ErrResultPending }},
		"a result, unsaid":        {false, func() (receipt, error) { return receipt{"first"}, nil }},
		"an error, unsaid":        {false, func() (receipt, error) { return receipt{}, io.ErrUnexpectedEOF }},
		"the end outside, unsaid": {false, func() (receipt, error) { return receipt{}, sdkactivity.ErrResultPending }},
	} {
		for _, local := range []bool{false, true} {
			b, s := &books{says: c.says, after: c.after}, memory()
			for range 2 {
				env := environment(t, b.guard(t, s))
				env.RegisterActivity(b.ChargeCard)
				call := func() (converter.EncodedValue, error) { return env.ExecuteActivity("ChargeCard", order(7)) }
				if local {
					call = func() (converter.EncodedValue, error) { return env.ExecuteLocalActivity(b.ChargeCard, order(7)) }
				}
				value, err := call()
				require.NoError(t, err, name)
				var out receipt
				require.NoError(t, value.Get(&out))
				require.Equal(t, receipt{"first"}, out, name)
			}
			require.Equal(t, 1, b.effects, name)
			require.Equal(t, reflect.TypeFor[receipt](), b.call.Out)
			var again receipt
			require.NoError(t, b.call.Decode(t.Context(), *b.outcome, &again))
			require.Equal(t, receipt{"first"}, again)
		}
	}
}

func TestLedger_DecidesAboutAnActivityInDoubt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, s := &books{}, memory()
		_, err := execute(t, b.guard(t, s), func(context.Context, charge) (receipt, error) {
			return receipt{}, once.MaybeDone(io.ErrUnexpectedEOF)
		}, order(7))
		requireReason(t, err, once.InDoubt, true)

		b.err = context.DeadlineExceeded // it does not answer
		body := func(ctx context.Context, _ charge) (receipt, error) {
			return receipt{"second"}, b.charge(ctx, receipt{"second"}, true)
		}
		_, err = execute(t, b.guard(t, s), body, order(7))
		requireReason(t, err, once.InDoubt, true)
		require.Zero(t, b.effects)

		b.err = nil
		out, err := execute(t, b.guard(t, s), body, order(7))
		require.NoError(t, err)
		require.Equal(t, receipt{"second"}, out)

		b.outcome = nil // the database is restored to an earlier time
		_, err = execute(t, b.guard(t, s), body, order(7))
		requireReason(t, err, once.BadRecord, true)
		require.ErrorContains(t, err, "restored to an earlier time")
		require.Equal(t, 1, b.effects)
	})
}
