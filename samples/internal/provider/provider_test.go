package provider_test

import (
	"context"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/samples/internal/provider"
)

type bank struct {
	provider.Client
	ledger string
	told   chan provider.Charge
}

func open(t *testing.T) bank {
	t.Helper()
	b := bank{ledger: filepath.Join(t.TempDir(), "ledger.jsonl"), told: make(chan provider.Charge, 10)}
	p, err := provider.Open(b.ledger, func(c provider.Charge) { b.told <- c })
	require.NoError(t, err)
	server := httptest.NewServer(p)
	t.Cleanup(func() {
		server.Close()
		require.NoError(t, p.Close())
	})
	b.URL = server.URL
	return b
}

func (b bank) committed(t *testing.T) []provider.Charge {
	t.Helper()
	ledger, err := provider.ReadLedger(b.ledger)
	require.NoError(t, err)
	return ledger
}

func TestCharge_ChargesEveryTimeItIsAsked(t *testing.T) {
	t.Parallel()
	b := open(t)
	first, err := b.Charge(t.Context(), "a", 100)
	require.NoError(t, err)
	second, err := b.Charge(t.Context(), "a", 100)
	require.NoError(t, err)
	require.NotEqual(t, first.ID, second.ID)
	_, err = b.Charge(t.Context(), "b", 100)
	require.NoError(t, err)

	charges, err := b.Charges(t.Context(), "a")
	require.NoError(t, err)
	require.Len(t, charges, 2)
	require.Len(t, b.committed(t), 3)
}

func TestCharge_IsNotCancelledByItsCaller(t *testing.T) {
	t.Parallel()
	b := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.Charge(ctx, "a", 100)
	require.NoError(t, err)
}

func TestFault_SpoilsTheAnswerAndNotTheCharge(t *testing.T) {
	t.Parallel()
	b := open(t)
	require.NoError(t, b.Arm(t.Context(), provider.Fault{Order: "a", Kind: provider.Drop, Times: 1}))
	_, err := b.Charge(t.Context(), "a", 100)
	require.Error(t, err)
	status := (*provider.StatusError)(nil)
	require.NotErrorAs(t, err, &status)
	require.Len(t, b.committed(t), 1)

	_, err = b.Charge(t.Context(), "a", 100)
	require.NoError(t, err)
	require.Len(t, b.committed(t), 2)
}

func TestFault_HoldAnswersWhenToldTo(t *testing.T) {
	t.Parallel()
	b := open(t)
	require.NoError(t, b.Arm(t.Context(), provider.Fault{Order: "a", Kind: provider.Hold, Times: 1}))
	answered := make(chan error, 1)
	go func() {
		_, err := b.Charge(t.Context(), "a", 100)
		answered <- err
	}()
	require.Equal(t, provider.Hold, (<-b.told).Fault)
	require.Len(t, b.committed(t), 1)
	require.Never(t, func() bool { return len(answered) > 0 }, 100*time.Millisecond, 10*time.Millisecond)
	require.NoError(t, b.LetGo(t.Context(), "a"))
	require.NoError(t, <-answered)
}

func TestFault_SlowAnswersLate(t *testing.T) {
	t.Parallel()
	b := open(t)
	const delay = 50 * time.Millisecond
	require.NoError(t, b.Arm(t.Context(), provider.Fault{Order: "a", Kind: provider.Slow, Times: 1, Delay: delay}))
	start := time.Now()
	_, err := b.Charge(t.Context(), "a", 100)
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(start), delay)
}

func TestFault_DeclineChargesNothing(t *testing.T) {
	t.Parallel()
	b := open(t)
	require.NoError(t, b.Arm(t.Context(), provider.Fault{Order: "a", Kind: provider.Decline, Times: 1}))
	_, err := b.Charge(t.Context(), "a", 100)
	status := (*provider.StatusError)(nil)
	require.ErrorAs(t, err, &status)
	require.Empty(t, b.committed(t))
}

func TestFault_RefusesAnUnknownKind(t *testing.T) {
	t.Parallel()
	b := open(t)
	require.Error(t, b.Arm(t.Context(), provider.Fault{Order: "a", Kind: "explode", Times: 1}))
}

func TestRefund_PaysNoChargeBackTwice(t *testing.T) {
	t.Parallel()
	b := open(t)
	charge, err := b.Charge(t.Context(), "a", 100)
	require.NoError(t, err)
	refunds, err := b.Refund(t.Context(), "a")
	require.NoError(t, err)
	require.Len(t, refunds, 1)
	require.Equal(t, charge.ID, refunds[0].Refunds)
	require.EqualValues(t, -100, refunds[0].Cents)

	refunds, err = b.Refund(t.Context(), "a")
	require.NoError(t, err)
	require.Empty(t, refunds)
}

func TestOpen_GoesOnWithItsLedger(t *testing.T) {
	t.Parallel()
	b := open(t)
	first, err := b.Charge(t.Context(), "a", 100)
	require.NoError(t, err)
	p, err := provider.Open(b.ledger, nil)
	require.NoError(t, err)
	server := httptest.NewServer(p)
	t.Cleanup(func() {
		server.Close()
		require.NoError(t, p.Close())
	})
	again := provider.Client{URL: server.URL}
	second, err := again.Charge(t.Context(), "a", 100)
	require.NoError(t, err)
	require.NotEqual(t, first.ID, second.ID)
	charges, err := again.Charges(t.Context(), "a")
	require.NoError(t, err)
	require.Len(t, charges, 2)
}
