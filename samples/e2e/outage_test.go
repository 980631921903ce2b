package e2e

import (
	"context"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

func TestStoreDown_BeforeTheBodyNothingRuns(t *testing.T) {
	t.Parallel()
	s := newScene(t, client.Options{})
	cut := newFlaky(s.store)
	cut.cut("acquire", "renew", "settle", "release")
	s.store = cut
	s.work(once.Policy{}, s.charge)
	run := s.start("outage", "one", call{})
	err := s.held(run, once.StoreDown)
	require.False(t, nonRetryable(err))
	require.True(t, once.MayHaveHappened(err), "the store was not asked about earlier attempts")
	require.ErrorContains(t, err, "was not run: Temporal tries again in 5s")
	require.ErrorContains(t, err, errCutOff.Error())
	s.eventually(func() bool { return cut.fired("acquire") > 1 }, "another attempt asks the store")
	s.count(0, charged)

	cut.cut()
	s.served(run)
	s.count(1, charged)
}

func TestStoreDown_AfterTheBodyTheResultIsReturnedAndRecordedLater(t *testing.T) {
	t.Parallel()
	s := newScene(t, client.Options{})
	cut := newFlaky(s.store)
	cut.cut("settle")
	s.store = cut
	s.work(perOrder, s.charge)
	// The answer waits for the record for 10 s at most.
	run := s.start("outage", "one", call{StartToClose: 15 * time.Second})
	s.served(run)
	require.EqualValues(t, 1, s.attempts(run))
	require.Positive(t, cut.fired("settle"))
	s.record(store.Running)
	require.Len(t, s.events.notice(observe.SettleDelayed), 1)
	duplicate := s.start("duplicate", "one", call{})
	require.False(t, nonRetryable(s.held(duplicate, once.InFlight)))

	cut.cut()
	s.served(duplicate)
	s.record(store.Succeeded)
	s.count(1, charged)
}

// provider is a server that charges what it is asked to, and breaks the
// connection instead of answering. It returns its address.
func provider(s *scene) string {
	s.t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			request := make([]byte, len("order-1"))
			if _, err := io.ReadFull(conn, request); err != nil || s.ledger.write(charged, string(request)) != nil {
				continue // no effect; the test fails for it
			}
			// With unsent data to be discarded, a close is a reset.
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
		}
	}()
	return l.Addr().String()
}

// chargeBy is a body that asks the provider. What came instead of an answer
// goes to reset, too.
func chargeBy(address string, reset chan<- error) body {
	return func(ctx context.Context, in charge) (receipt, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp4", address)
		if err != nil {
			return receipt{}, err
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, in.Order); err != nil {
			return receipt{}, err
		}
		answer, err := io.ReadAll(conn)
		reset <- err
		return receipt{ID: string(answer)}, err
	}
}

func TestConnectionReset_AfterTheEffectIsInDoubtOnTheLastAttempt(t *testing.T) {
	t.Parallel()
	policies := map[string]once.DoubtPolicy{"Hold": once.Hold, "Fail": once.Fail, "Rerun": once.Rerun}
	for name, policy := range policies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, client.Options{})
			reset := make(chan error, 1)
			s.work(once.Policy{InDoubt: policy}, chargeBy(provider(s), reset))
			v := s.verdict(s.start("reset", "one", call{Attempts: 1}))
			require.ErrorIs(t, <-reset, syscall.ECONNRESET)
			require.Equal(t, once.InDoubt, v.Why.Reason)
			require.True(t, v.MayHaveHappened)
			require.Contains(t, v.Failure, "connection reset by peer")
			s.record(store.InDoubt)
			s.count(1, charged)
		})
	}
}

// The guard has seen what net/http was refused. It cannot know how often another
// client has tried.
func TestConnectionRefused_IsKnownNotToHaveHappenedOfNetHTTP(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	address := l.Addr().String()
	for name, refused := range map[string]struct {
		body  body
		maybe bool
		state store.State
	}{
		"net/http": {func(ctx context.Context, _ charge) (receipt, error) {
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address, http.NoBody)
			if err != nil {
				return receipt{}, err
			}
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				return receipt{}, err
			}
			return receipt{}, answer.Body.Close()
		}, false, store.Tombstone},
		"another client": {chargeBy(address, nil), true, store.InDoubt},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, client.Options{})
			s.work(once.Policy{}, refused.body)
			v := s.verdict(s.start("refused", "one", call{Attempts: 1}))
			require.Contains(t, v.Failure, "connection refused")
			require.Equal(t, refused.maybe, v.MayHaveHappened)
			s.record(refused.state)
			s.count(0, charged)
		})
	}
}
