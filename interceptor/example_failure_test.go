package interceptor_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/store"
)

type Transfer struct {
	To    string
	Cents int
}

var ErrRefused = errors.New("the bank refuses")

type Wires interface {
	Account(ctx context.Context, of string) (iban string, err error)
	Send(ctx context.Context, iban string, cents int, idempotencyKey string) error
}

type Transfers struct{ bank Wires }

func (t *Transfers) SendMoney(ctx context.Context, in Transfer) error {
	iban, err := t.bank.Account(ctx, in.To)
	if err != nil {
		return err // nothing has happened: Temporal tries again
	}
	once.Begin(ctx)
	err = t.bank.Send(ctx, iban, in.Cents, once.Key(ctx))
	if errors.Is(err, ErrRefused) {
		return once.NotDone(err)
	}
	return err // it may have happened, whatever the error says
}

// ledgerBank sends, and then answers as it is set to.
type ledgerBank struct {
	unknown, says error
	sent          int
}

func (b *ledgerBank) Account(context.Context, string) (string, error) { return "DE00", b.unknown }

func (b *ledgerBank) Send(context.Context, string, int, string) error {
	b.sent++
	return b.says
}

func TestBegin_DividesTheActivity(t *testing.T) {
	t.Parallel()
	odd := errors.New("broker: session 7 lost") // looks like any other
	for name, tc := range map[string]struct {
		bank   ledgerBank
		policy once.Policy
		state  store.State
	}{
		"before":               {ledgerBank{unknown: odd}, once.Policy{}, store.Tombstone},
		"before, under Lock":   {ledgerBank{unknown: odd}, once.Policy{OnFailure: once.Lock}, store.Failed},
		"after":                {ledgerBank{says: odd}, once.Policy{}, store.InDoubt},
		"after, under Lock":    {ledgerBank{says: odd}, once.Policy{OnFailure: once.Lock}, store.InDoubt},
		"after, not done":      {ledgerBank{says: ErrRefused}, once.Policy{}, store.Tombstone},
		"after, no error":      {ledgerBank{}, once.Policy{}, store.Succeeded},
		"after, as classified": {ledgerBank{says: odd}, once.Policy{OnFailure: once.Classify(func(error) once.FailurePolicy { return once.Lock })}, store.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := memory()
			_, err := execute(t, guarded(t, s, tc.policy), func(ctx context.Context, in charge) (receipt, error) {
				return receipt{}, (&Transfers{&tc.bank}).SendMoney(ctx, Transfer{in.Order, in.Cents})
			}, order(7))
			require.Equal(t, tc.state, only(t, s).State)
			require.Equal(t, tc.state == store.InDoubt, once.MayHaveHappened(err), "%v", err)
		})
	}
}

// What a Reconcile function begins is not the activity's effect.
func TestBegin_SaysNothingInAReconcileFunction(t *testing.T) {
	t.Parallel()
	s := memory()
	g := guarded(t, s, once.Policy{InDoubt: once.Reconcile(func(ctx context.Context, _ charge) (receipt, error) {
		once.Begin(ctx)
		return receipt{}, once.ErrNotDone
	})})
	inDoubt(t, s, g)
	_, err := execute(t, g, (&payments{fail: errDeclined}).ChargeCard, order(7))
	require.ErrorContains(t, err, errDeclined.Error())
	require.False(t, once.MayHaveHappened(err))
	require.Equal(t, store.Tombstone, only(t, s).State)
}
