package interceptor_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

// completions is the part of a client that Complete uses.
type completions struct {
	client.Client
	err  error
	told []client.CompleteActivityOptions
}

func (c *completions) CompleteActivityWithOptions(_ context.Context, o client.CompleteActivityOptions) error {
	c.told = append(c.told, o)
	return c.err
}

// pending starts a call that its body leaves to others, and returns its token.
func pending(t *testing.T, g *interceptor.Guard, in charge) (token string) {
	t.Helper()
	_, err := execute(t, g, func(ctx context.Context, _ charge) (receipt, error) {
		claim, ok := once.FromContext(ctx)
		require.True(t, ok)
		token = claim.Token()
		return receipt{}, sdkactivity.ErrResultPending
	}, in)
	require.ErrorIs(t, err, sdkactivity.ErrResultPending)
	return token
}

func TestComplete_RecordsTheResultThenTellsTemporal(t *testing.T) {
	t.Parallel()
	s, c := memory(), &completions{}
	g := guarded(t, s, once.Policy{})
	token := pending(t, g, order(7))
	require.Equal(t, store.Pending, only(t, s).State)

	// By another process, which need not know the activity.
	elsewhere := newGuard(t, s, options(once.Mark(once.Policy{}, "Refund")))
	for range 2 { // the second time after a lost answer
		require.NoError(t, elsewhere.Complete(t.Context(), c, token, receipt{ID: "from outside"}, nil))
	}
	require.Len(t, c.told, 2)
	require.NotEmpty(t, c.told[0].TaskToken)
	require.Equal(t, receipt{ID: "from outside"}, c.told[0].Result)
	require.Equal(t, "ChargeCard", c.told[0].ActivityType)
	got, err := execute(t, g, (&payments{}).ChargeCard, order(7))
	require.NoError(t, err)
	require.Equal(t, "from outside", got.ID)
}

// The token alone is enough to make the record again.
func TestComplete_AfterTheStoreForgot(t *testing.T) {
	t.Parallel()
	for name, failure := range map[string]error{"result": nil, "failure": errors.New("declined")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, c := memory(), &completions{}
			g := guarded(t, s, once.Policy{OnFailure: once.Lock})
			token := pending(t, g, order(7))
			before := only(t, s)
			s.Clear()
			require.NoError(t, g.Complete(t.Context(), c, token, receipt{ID: "from outside"}, failure))
			after := only(t, s)
			require.True(t, after.Forgotten)
			require.Equal(t, before.Key, after.Key)
			require.Equal(t, before.Info, after.Info)
			require.Equal(t, before.Fence, after.Fence)
			require.WithinDuration(t, before.Deadline, after.Deadline, soon)
			require.WithinDuration(t, before.Expires, after.Expires, soon)
			_, err := execute(t, g, (&payments{}).ChargeCard, order(7))
			if failure == nil {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, "declined")
			}
		})
	}
}

// The callee may be faster than the activity's return.
func TestComplete_BeforeTheActivityHasReturned(t *testing.T) {
	t.Parallel()
	s, c := memory(), &completions{}
	g := guarded(t, s, once.Policy{})
	_, err := execute(t, g, func(ctx context.Context, _ charge) (receipt, error) {
		claim, _ := once.FromContext(ctx)
		require.NoError(t, g.Complete(ctx, c, claim.Token(), receipt{ID: "fast"}, nil))
		return receipt{}, sdkactivity.ErrResultPending
	}, order(7))
	require.ErrorIs(t, err, sdkactivity.ErrResultPending)
	require.Equal(t, store.Succeeded, only(t, s).State)
}

func TestComplete_JudgesAFailureAsThePolicySays(t *testing.T) {
	t.Parallel()
	declined := errors.New("declined")
	for name, want := range map[string]struct {
		policy    once.Policy
		failure   error
		state     store.State
		told      string
		retryable bool
	}{
		"Unlock":    {once.Policy{OnFailure: once.Unlock}, declined, store.Tombstone, "", true},
		"Lock":      {once.Policy{OnFailure: once.Lock}, declined, store.Failed, "", false},
		"Doubt":     {once.Policy{OnFailure: once.Doubt}, declined, store.InDoubt, "in doubt", true},
		"MaybeDone": {once.Policy{}, once.MaybeDone(declined), store.InDoubt, "in doubt", true},
		"NotDone":   {once.Policy{OnFailure: once.Doubt}, once.NotDone(declined), store.Tombstone, "", true},
		"ambiguous": {once.Policy{}, errors.Join(declined, io.ErrUnexpectedEOF), store.InDoubt, "in doubt", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, c := memory(), &completions{}
			g := guarded(t, s, want.policy)
			require.NoError(t, g.Complete(t.Context(), c, pending(t, g, order(7)), nil, want.failure))
			require.Equal(t, want.state, only(t, s).State)
			told := c.told[0].Err
			require.ErrorContains(t, told, "declined")
			require.ErrorContains(t, told, want.told)
			require.Equal(t, want.state == store.InDoubt, once.Is(told, once.InDoubt))
			_, err := execute(t, g, (&payments{}).ChargeCard, order(7))
			switch want.state {
			case store.Tombstone:
				require.NoError(t, err, "the next attempt runs")
			case store.Failed:
				require.ErrorContains(t, err, "declined")
			default:
				requireReason(t, err, once.InDoubt, true)
			}
		})
	}
}

// It may be called again.
func TestComplete_AfterAPanicOfTheClassifier(t *testing.T) {
	t.Parallel()
	s, c := memory(), &completions{}
	token := pending(t, guarded(t, s, once.Policy{}), order(7))
	bad := guarded(t, s, once.Policy{OnFailure: once.Classify(func(error) once.FailurePolicy { panic("classifier") })})
	require.Panics(t, func() { _ = bad.Complete(t.Context(), c, token, nil, errors.New("declined")) })
	require.Equal(t, store.Pending, only(t, s).State)
	require.Empty(t, c.told)
	require.NoError(t, bad.Complete(t.Context(), c, token, receipt{ID: "r"}, nil))
	require.Equal(t, store.Succeeded, only(t, s).State)
}

// What the activity began before it handed its token out may have happened.
func TestComplete_KnowsThatTheEffectHadBegun(t *testing.T) {
	t.Parallel()
	declined := errors.New("declined")
	for name, want := range map[string]struct {
		begin   bool
		failure error
		state   store.State
	}{
		"begun":              {true, declined, store.InDoubt},
		"begun and not done": {true, once.NotDone(declined), store.Tombstone},
		"not begun":          {false, declined, store.Tombstone},
	} {
		s, c, token := memory(), &completions{}, ""
		g := guarded(t, s, once.Policy{})
		_, err := execute(t, g, func(ctx context.Context, _ charge) (receipt, error) {
			if want.begin {
				once.Begin(ctx)
			}
			claim, _ := once.FromContext(ctx)
			token = claim.Token()
			return receipt{}, sdkactivity.ErrResultPending
		}, order(7))
		require.ErrorIs(t, err, sdkactivity.ErrResultPending)
		require.NoError(t, g.Complete(t.Context(), c, token, nil, want.failure))
		require.Equal(t, want.state, only(t, s).State, name)
		require.Equal(t, want.state == store.InDoubt, once.Is(c.told[0].Err, once.InDoubt), name)
	}
}

func TestComplete_FinalFailureEndsACallThatIsInDoubt(t *testing.T) {
	t.Parallel()
	final := temporal.NewNonRetryableApplicationError("declined", "Final", nil)
	for policy, ends := range map[once.DoubtPolicy]bool{once.Rerun: true, once.Resume: true, once.Hold: false, once.Reconcile(findCharge): false} {
		s, c := memory(), &completions{}
		g := guarded(t, s, once.Policy{InDoubt: policy})
		require.NoError(t, g.Complete(t.Context(), c, pending(t, g, order(7)), nil, once.MaybeDone(final)))
		requireInDoubt(t, c.told[0].Err, ends)
		require.Equal(t, store.InDoubt, only(t, s).State)
	}
}

func TestComplete_AfterTemporalStoppedWaiting(t *testing.T) {
	t.Parallel()
	s := memory()
	g := guarded(t, s, once.Policy{})
	token := pending(t, g, order(7))
	gone := &completions{err: serviceerror.NewNotFound("activity task not found")}
	require.NoError(t, g.Complete(t.Context(), gone, token, receipt{ID: "late"}, nil))
	got, err := execute(t, g, (&payments{}).ChargeCard, order(7))
	require.NoError(t, err)
	require.Equal(t, "late", got.ID, "a later attempt replays it")

}

func TestComplete_WhileTemporalIsDown(t *testing.T) {
	t.Parallel()
	s := memory()
	g := guarded(t, s, once.Policy{})
	token := pending(t, g, order(7))
	unreachable := serviceerror.NewUnavailable("no server")
	down := &completions{err: unreachable}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	require.Error(t, g.Complete(ctx, down, token, receipt{ID: "r"}, nil))
	require.Greater(t, len(down.told), 1, "it was tried again")
	refused := serviceerror.NewPermissionDenied("no", "")
	require.ErrorIs(t, g.Complete(t.Context(), &completions{err: refused}, token, receipt{ID: "r"}, nil), refused)
	require.Equal(t, store.Succeeded, only(t, s).State)
}

func TestComplete_OfASupersededCall(t *testing.T) {
	t.Parallel()
	s, c := memory(), &completions{}
	g := guarded(t, s, once.Policy{})
	token := pending(t, g, order(7))
	_, err := g.Resolve(t.Context(), only(t, s), resolve.AsDone(receipt{ID: "operator"}), byAnn("seen at the provider"))
	require.NoError(t, err)
	require.ErrorIs(t, g.Complete(t.Context(), c, token, receipt{ID: "x"}, nil), store.ErrConflict)
	require.ErrorIs(t, g.Complete(t.Context(), c, token, nil, errors.New("declined")), store.ErrSuperseded)
	require.Empty(t, c.told, "Temporal gets the record's outcome")
}

func TestComplete_WhileTheStoreIsDown(t *testing.T) {
	t.Parallel()
	s, c := newFaulty(), &completions{}
	g := guarded(t, s, once.Policy{})
	token := pending(t, g, order(7))
	s.set("settle", fault{times: 3})
	require.NoError(t, g.Complete(t.Context(), c, token, receipt{ID: "r"}, nil))
	require.Equal(t, store.Succeeded, only(t, s).State)

	s.set("settle", fault{times: 1_000_000})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	c.told = nil
	require.Error(t, g.Complete(ctx, c, token, receipt{ID: "r"}, nil))
	require.Empty(t, c.told, "nothing is reported that is not recorded")
}

func TestComplete_RefusesWhatIsNoToken(t *testing.T) {
	t.Parallel()
	g := guarded(t, memory(), once.Policy{})
	for _, text := range []string{"", "?", "AAAA", "e30"} {
		require.ErrorContains(t, g.Complete(t.Context(), &completions{}, text, nil, nil), "not a token")
	}
	stranger := newGuard(t, memory(), options(once.Mark(once.Policy{}, "Refund")))
	err := stranger.Complete(t.Context(), &completions{}, pending(t, g, order(8)), nil, errors.New("declined"))
	require.ErrorContains(t, err, "ChargeCard is not marked here")
	bare := newGuard(t, memory(), interceptor.Options{Activities: once.Mark(once.Policy{}, "ChargeCard")})
	require.ErrorContains(t, bare.Complete(t.Context(), &completions{}, pending(t, g, order(7)), nil, nil), "data converter")
}

func TestComplete_RefusesWhatCannotBeEncoded(t *testing.T) {
	t.Parallel()
	s, c := memory(), &completions{}
	g := guarded(t, s, once.Policy{})
	token := pending(t, g, order(7))
	require.ErrorContains(t, g.Complete(t.Context(), c, token, make(chan int), nil), "cannot be encoded")
	require.Equal(t, store.Pending, only(t, s).State)
	require.Empty(t, c.told)
}

// The policy is the one of the mark, whatever name the activity goes by.
func TestComplete_OfAFunctionRegisteredUnderAnotherName(t *testing.T) {
	t.Parallel()
	s, c := memory(), &completions{}
	g := newGuard(t, s, options(once.Mark(once.Policy{OnFailure: once.Lock}, (*handsOver)(nil).ChargeCard)))
	env := environment(t, g)
	var token string
	env.RegisterActivityWithOptions(&handsOver{&token}, sdkactivity.RegisterOptions{Name: "payments-"})
	_, err := env.ExecuteActivity("payments-ChargeCard", order(7))
	require.ErrorIs(t, err, sdkactivity.ErrResultPending)
	require.NoError(t, g.Complete(t.Context(), c, token, nil, errors.New("declined")))
	require.Equal(t, store.Failed, only(t, s).State)
}

// Which of two functions a name means is known where it is registered.
func TestComplete_OfANamesakeOfWhatIsMarked(t *testing.T) {
	t.Parallel()
	s, c := memory(), &completions{}
	token := pending(t, guarded(t, s, once.Policy{}), order(7))
	declined := errors.New("declined")
	g := newGuard(t, s, options(once.Mark(once.Policy{OnFailure: once.Lock}, (*handsOver)(nil).ChargeCard)))
	env := environment(t, g)
	env.RegisterActivityWithOptions(&handsOver{}, sdkactivity.RegisterOptions{Name: "payments-"})
	env.RegisterActivity(&payments{})
	require.ErrorContains(t, g.Complete(t.Context(), c, token, nil, declined), "ChargeCard is not marked here")

	elsewhere := newGuard(t, s, options(once.Mark(once.Policy{OnFailure: once.Lock}, (*handsOver)(nil).ChargeCard)))
	require.NoError(t, elsewhere.Complete(t.Context(), c, token, nil, declined))
	require.Equal(t, store.Failed, only(t, s).State)
}

// handsOver leaves its end to others.
type handsOver struct{ token *string }

func (l *handsOver) ChargeCard(ctx context.Context, _ charge) (receipt, error) {
	claim, _ := once.FromContext(ctx)
	*l.token = claim.Token()
	return receipt{}, sdkactivity.ErrResultPending
}

// Without a claim there is nothing to record; Temporal gets its answer.
func TestComplete_WithoutAClaim(t *testing.T) {
	t.Parallel()
	declined := errors.New("declined")
	for name, mode := range map[string]once.Mode{"Off": once.Off, "Observe": once.Observe} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, c := newFaulty(), &completions{}
			s.set("acquire", fault{times: 1})
			g, _ := inMode(t, s, mode, once.Policy{OnFailure: once.Lock})
			require.NoError(t, g.Complete(t.Context(), c, pending(t, g, order(7)), nil, declined))
			require.Equal(t, declined, c.told[0].Err)
			if mode == once.Off {
				return
			}
			require.NoError(t, g.Complete(t.Context(), c, pending(t, g, order(8)), nil, declined))
			require.Equal(t, declined, c.told[1].Err, "Observe changes no error")
			require.Equal(t, store.Failed, recordOf(t, s, store.Failed).State)
		})
	}
}

// recordOf returns the only record in a state.
func recordOf(t *testing.T, s store.Store, state store.State) (found store.Record) {
	t.Helper()
	for r, err := range s.List(t.Context(), store.Query{State: state}) {
		require.NoError(t, err)
		require.Empty(t, found.Key)
		found = r
	}
	return found
}

// Two clients that encode alike are one; so is a client that was dialled again.
func TestComplete_OfSeveralClients(t *testing.T) {
	t.Parallel()
	complete := func(converters ...converter.DataConverter) error {
		s := memory()
		g := newGuard(t, s, interceptor.Options{Activities: once.Mark(once.Policy{}, "ChargeCard")})
		for _, dc := range converters {
			c, err := client.NewLazyClient(client.Options{Logger: quiet, DataConverter: dc, Plugins: []client.Plugin{g}})
			require.NoError(t, err)
			t.Cleanup(c.Close)
		}
		return g.Complete(t.Context(), &completions{}, pending(t, guarded(t, s, once.Policy{}), order(7)), receipt{}, nil)
	}
	other := converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), converter.NewZlibCodec(converter.ZlibCodecOptions{}))
	require.ErrorContains(t, complete(), "data converter")
	require.NoError(t, complete(nil))
	require.NoError(t, complete(nil, nil))
	require.NoError(t, complete(other))
	require.ErrorContains(t, complete(nil, other), "several clients")
}
