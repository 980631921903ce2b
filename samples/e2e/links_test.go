package e2e

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.temporal.io/api/workflowservice/v1"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"google.golang.org/grpc"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

func TestLink_CrossesWorkflowsAndWorkers(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		policy once.DuplicatePolicy
		cents  int
		span   string
	}{
		"Return":   {once.Return, 1200, duplicateSpan},
		"Reject":   {once.Reject, 1200, failSpan},
		"mismatch": {once.Return, 99, failSpan},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _ := newTracedScene(t)
			policy := perOrder
			policy.OnDuplicate = tc.policy
			first, second := newTraced(), newTraced()
			w := s.workIn(first, policy, s.charge)
			original := s.start("original", "one", call{})
			s.served(original)
			w.Stop()

			s.workIn(second, policy, s.charge)
			repeat := s.start("repeat", "one", call{Input: charge{Order: "order-1", Cents: tc.cents}})
			s.verdict(repeat)
			s.count(1, charged)
			executed, span := first.only(t, executeSpan), second.only(t, tc.span)
			requireLinked(t, span, executed, original, 1)
			requireParent(t, second.only(t, runActivity), span)
			require.NotEqual(t, executed.SpanContext().TraceID(), span.SpanContext().TraceID())
			require.Equal(t, repeat.GetID(), attributesOf(span)["temporalWorkflowID"])
			require.NotContains(t, attributesOf(span), "atmostonce.original.workflow_id")
			require.Empty(t, executed.Links())
		})
	}
}

func TestLink_CrossesTheResetOfAWorkflow(t *testing.T) {
	t.Parallel()
	s, _ := newTracedScene(t)
	p := newTraced()
	s.workIn(p, once.Policy{}, s.charge)
	run := s.start("reset", "one", call{})
	s.served(run)
	again := s.reset(run)
	s.served(again)
	s.count(1, charged)
	span := p.only(t, duplicateSpan)
	requireLinked(t, span, p.only(t, executeSpan), run, 1)
	require.Equal(t, again.GetRunID(), attributesOf(span)["temporalRunID"])
}

// The attempts of one call are of one trace.
func TestLink_OfARetryWhoseFirstAnswerWasLost(t *testing.T) {
	t.Parallel()
	s, _ := newTracedScene(t)
	var lost atomic.Bool
	lose := func(ctx context.Context, method string, request, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, o ...grpc.CallOption) error {
		if _, answer := request.(*workflowservice.RespondActivityTaskCompletedRequest); answer && lost.CompareAndSwap(false, true) {
			return nil
		}
		return invoke(ctx, method, request, reply, cc, o...)
	}
	s.options.ConnectionOptions.DialOptions = []grpc.DialOption{grpc.WithChainUnaryInterceptor(lose)}
	p := newTraced()
	s.workIn(p, once.Policy{}, s.charge)
	run := s.start("lost", "one", call{StartToClose: tight})
	s.served(run)
	s.count(1, charged)
	executed, replayed := p.only(t, executeSpan), p.only(t, duplicateSpan)
	requireLinked(t, replayed, executed, run, 1)
	require.Equal(t, executed.SpanContext().TraceID(), replayed.SpanContext().TraceID())
	require.EqualValues(t, 1, attributesOf(executed)["temporalActivityAttempt"])
	require.EqualValues(t, 2, attributesOf(replayed)["temporalActivityAttempt"])
}

func TestLink_OfAWaiter(t *testing.T) {
	t.Parallel()
	s, _ := newTracedScene(t)
	finish := make(chan struct{})
	first, second := newTraced(), newTraced()
	s.workIn(first, waits(once.Hold), s.zombie(finish))
	owner := s.start("owner", "one", call{})
	s.eventually(func() bool { return len(s.ledger.lines(charged)) == 1 }, "the effect")
	s.workIn(second, waits(once.Hold), s.charge)
	waiter := s.start("waiter", "one", call{})
	s.waited(waiter, 1, time.Second)
	close(finish)
	s.served(owner)
	s.served(waiter)
	s.count(1, charged)
	executed, waited, replayed := first.only(t, executeSpan), second.only(t, waitSpan), second.only(t, duplicateSpan)
	requireLinked(t, waited, executed, owner, 1)
	requireLinked(t, replayed, executed, owner, 1)
	requireParent(t, replayed, waited)
}

func TestLink_OfWhatComesAfterADoubt(t *testing.T) {
	t.Parallel()
	reconcile := func(answer error) once.DoubtPolicy {
		return once.Reconcile(func(context.Context, charge) (receipt, error) { return receiptOf(charge{Order: "order-1"}), answer })
	}
	for name, tc := range map[string]struct {
		policy once.DoubtPolicy
		span   string // of the last attempt
		starts int    // of the body
	}{
		"taken over by Rerun":       {once.Rerun, executeSpan, 2},
		"taken over by Resume":      {once.Resume, executeSpan, 2},
		"run after Reconcile":       {reconcile(once.ErrNotDone), executeSpan, 2},
		"found by Reconcile":        {reconcile(nil), duplicateSpan, 1},
		"failed":                    {once.Fail, failSpan, 1},
		"Reconcile gives no answer": {reconcile(errors.New("no answer")), failSpan, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _ := newTracedScene(t)
			p := newTraced()
			s.workIn(p, once.Policy{InDoubt: tc.policy}, func(ctx context.Context, in charge) (receipt, error) {
				if err := s.ledger.write(begun); err != nil {
					return receipt{}, err
				}
				if sdkactivity.GetInfo(ctx).Attempt == 1 {
					return receipt{}, once.MaybeDone(errors.New("no answer"))
				}
				return receiptOf(in), nil
			})
			run := s.start("doubted", "one", call{Attempts: 3})
			s.verdict(run)
			s.count(tc.starts, begun)
			executed := p.ended(executeSpan)
			require.Len(t, executed, tc.starts)
			require.Empty(t, executed[0].Links())
			after := p.ended(tc.span)
			last := after[len(after)-1]
			requireLinked(t, last, executed[0], run, 1)
			require.Equal(t, executed[0].SpanContext().TraceID(), last.SpanContext().TraceID())
			if tc.span == failSpan {
				require.Equal(t, "in_doubt", attributesOf(last)["error.type"])
			}
		})
	}
}

// Nobody could follow a link to a span that was not kept.
func TestLink_IsAttributesWhereTheOriginalWasNotSampled(t *testing.T) {
	t.Parallel()
	for name, work := range map[string]func(*scene) worker.Worker{
		"not sampled": func(s *scene) worker.Worker {
			return s.workIn(newTraced(sdktrace.WithSampler(sdktrace.NeverSample())), perOrder, s.charge)
		},
		"not traced": func(s *scene) worker.Worker { return s.work(perOrder, s.charge) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, client.Options{})
			w := work(s)
			original := s.start("original", "one", call{})
			s.served(original)
			w.Stop()
			require.False(t, strings.HasSuffix(s.record(store.Succeeded).Info.Trace, "-01"), "the flags, not an ID that begins so")

			p := newTraced()
			s.workIn(p, perOrder, s.charge)
			s.served(s.start("repeat", "one", call{}))
			s.count(1, charged)
			span := p.only(t, duplicateSpan)
			require.Empty(t, span.Links())
			got := attributesOf(span)
			require.Equal(t, original.GetID(), got["atmostonce.original.workflow_id"])
			require.Equal(t, original.GetRunID(), got["atmostonce.original.run_id"])
			require.EqualValues(t, 1, got["atmostonce.original.attempt"])
			require.NotContains(t, got, "atmostonce.link")
			require.Empty(t, s.events.kind(observe.KindFail))
		})
	}
}
