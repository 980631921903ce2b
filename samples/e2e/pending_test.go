package e2e

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/store"
)

// outside is a process without workers, which reports the ends of activities.
type outside struct {
	s      *scene
	guard  *interceptor.Guard
	client client.Client
	tokens chan string
}

// handOver starts a worker whose activity leaves its end to the outside.
func (s *scene) handOver(p once.Policy) *outside {
	s.t.Helper()
	marks := once.Mark(p, "Charge")
	o := &outside{s: s, guard: s.guard(marks...), tokens: make(chan string, 10)}
	o.client = s.dial(o.guard)
	s.work(p, func(ctx context.Context, in charge) (receipt, error) {
		claim, _ := once.FromContext(ctx)
		if err := s.ledger.write(charged, in.Order); err != nil {
			return receipt{}, err
		}
		o.tokens <- claim.Token()
		return receipt{}, sdkactivity.ErrResultPending
	})
	return o
}

// token waits until an activity has been started outside.
func (o *outside) token() (token string) {
	o.s.t.Helper()
	select {
	case token = <-o.tokens:
	case <-time.After(soon):
		require.Fail(o.s.t, "no activity has begun")
	}
	return token
}

func (o *outside) complete(token string, result any, failure error) {
	o.s.t.Helper()
	require.NoError(o.s.t, o.guard.Complete(o.s.t.Context(), o.client, token, result, failure))
}

var done = receiptOf(charge{Order: "order-1"})

func TestPending_IsCompletedFromOutside(t *testing.T) {
	t.Parallel()
	s := newScene(t, encrypted(true))
	o := s.handOver(perOrder)
	run := s.start("first", "one", call{})
	token := o.token()
	s.eventually(func() bool { return len(s.records(store.Pending)) == 1 }, "the record is pending")

	// Another workflow asks for the same effect meanwhile.
	other := s.start("second", "one", call{})
	require.Error(t, s.held(other, once.InFlight))
	o.complete(token, done, nil)
	s.served(run)
	s.served(other)
	s.count(1, charged)
	o.complete(token, done, nil) // repeated by a caller that got no answer
}

func TestPending_FailedFromOutside(t *testing.T) {
	t.Parallel()
	declined := errors.New("declined")
	for name, c := range map[string]struct {
		policy once.Policy
		effect int
		state  store.State
	}{
		"nothing happened": {once.Policy{OnFailure: once.Unlock}, 2, store.Succeeded},
		"for good":         {once.Policy{OnFailure: once.Lock}, 1, store.Failed},
		"in doubt":         {once.Policy{OnFailure: once.Doubt, InDoubt: once.Fail}, 1, store.InDoubt},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, client.Options{})
			o := s.handOver(c.policy)
			run := s.start("failed", "one", call{})
			o.complete(o.token(), nil, declined)
			if c.state == store.Succeeded {
				o.complete(o.token(), done, nil)
				s.served(run)
			} else {
				v := s.verdict(run)
				require.Contains(t, v.Failure, map[store.State]string{store.Failed: "declined", store.InDoubt: "in doubt"}[c.state])
				require.Equal(t, c.state == store.InDoubt, v.MayHaveHappened)
			}
			s.count(c.effect, charged)
			s.record(c.state)
		})
	}
}

// The attempt times out; what the outside reports then reaches a later attempt.
func TestPending_ReportedAfterTheAttemptTimedOut(t *testing.T) {
	t.Parallel()
	s := newScene(t, client.Options{})
	o := s.handOver(once.Policy{})
	run := s.start("late", "one", call{StartToClose: 2 * time.Second})
	token := o.token()
	require.Error(t, s.held(run, once.InDoubt))
	o.complete(token, done, nil)
	s.served(run)
	s.count(1, charged)
}
