package e2e

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"google.golang.org/protobuf/proto"

	once "github.com/atmostonce/atmostonce/activity"
)

// calledTwice has a workflow call Charge two times, under a codec that never
// encodes alike.
func calledTwice(t *testing.T, marks []once.Marked, body func(*scene) any) (*scene, client.WorkflowRun) {
	t.Helper()
	s := newScene(t, encrypted(false))
	s.workWith(s.guard(marks...), worker.Options{}, func(r worker.Registry) { register(r, body(s)) })
	run := s.start("twice", "twice", call{})
	s.completed(run)
	return s, run
}

func (s *scene) completed(run client.WorkflowRun) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), soon)
	defer cancel()
	require.NoError(s.t, run.Get(ctx, nil))
}

func TestReplay_ResultsAreTheSameBytes(t *testing.T) {
	t.Parallel()
	kinds := map[string]func(s *scene) any{
		"struct": func(s *scene) any {
			return func(context.Context, charge) (receipt, error) {
				return receipt{ID: rand.Text()}, s.ledger.write(charged)
			}
		},
		"nothing": func(s *scene) any {
			return func(context.Context, charge) error { return s.ledger.write(charged) }
		},
		"nil": func(s *scene) any {
			return func(context.Context, charge) (*receipt, error) { return nil, s.ledger.write(charged) }
		},
		"1 MiB": func(s *scene) any {
			return func(context.Context, charge) ([]byte, error) {
				b := make([]byte, 1<<20)
				_, err := rand.Read(b)
				return b, errors.Join(err, s.ledger.write(charged))
			}
		},
		"protobuf": func(s *scene) any {
			return func(context.Context, charge) (*commonpb.WorkflowExecution, error) {
				return &commonpb.WorkflowExecution{WorkflowId: rand.Text()}, s.ledger.write(charged)
			}
		},
		"bytes": func(s *scene) any {
			return func(context.Context, charge) ([]byte, error) { return []byte("\x00\xff\n"), s.ledger.write(charged) }
		},
		"raw payload": func(s *scene) any {
			return func(context.Context, charge) (converter.RawValue, error) {
				return converter.NewRawValue(&commonpb.Payload{
					Metadata: map[string][]byte{converter.MetadataEncoding: []byte("own/encoding"), "note": []byte("kept")},
					Data:     []byte(rand.Text()),
				}), s.ledger.write(charged)
			}
		},
	}
	for kind, body := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s, run := calledTwice(t, once.Mark(once.Policy{}, "Charge"), body)
			results := s.results(run)
			require.Len(t, results, 2)
			require.True(t, proto.Equal(results[0], results[1]))
			require.Equal(t, kind == "nothing" || kind == "nil", len(results[0].GetPayloads()) == 0)
			s.count(1, charged)
		})
	}
}

func TestReplay_WhereTheGuardOnlyObservesTheBytesDiffer(t *testing.T) {
	t.Parallel()
	s, run := calledTwice(t, once.Mark(once.Policy{}, once.All), func(s *scene) any { return s.charge })
	results := s.results(run)
	require.Len(t, results, 2)
	require.False(t, proto.Equal(results[0], results[1]))
	s.count(2, charged)
}

func TestReplay_LockedFailuresAreTheSameBytes(t *testing.T) {
	t.Parallel()
	cause := temporal.NewApplicationError("insufficient funds", "Issuer", receipt{ID: rand.Text()})
	errs := map[string]error{
		"application": temporal.NewApplicationErrorWithOptions("declined", "CardDeclined", temporal.ApplicationErrorOptions{
			Details: []any{receipt{ID: rand.Text()}, 42}, Category: temporal.ApplicationErrorCategoryBenign,
			Cause: fmt.Errorf("the issuer said no: %w", cause),
		}),
		"plain": errors.New("declined"),
	}
	for kind, failure := range errs {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s, run := calledTwice(t, once.Mark(once.Policy{OnFailure: once.Lock}, "Charge"), func(s *scene) any {
				return func(context.Context, charge) error {
					if err := s.ledger.write(charged); err != nil {
						return err
					}
					return failure
				}
			})
			failures := s.failures(run)
			require.Len(t, failures, 2)
			require.True(t, proto.Equal(failures[0], failures[1]), "%v\n%v", failures[0], failures[1])
			require.True(t, failures[0].GetApplicationFailureInfo().GetNonRetryable())
			require.NotNil(t, failures[0].GetEncodedAttributes())
			s.count(1, charged)
			requireSameError(t, failure, s.options.FailureConverter.FailureToError(failures[1]))
		})
	}
}

// requireSameError compares what workflow code can ask of an error.
func requireSameError(t *testing.T, want, got error) {
	t.Helper()
	app, wantApp := (*temporal.ApplicationError)(nil), (*temporal.ApplicationError)(nil)
	require.ErrorAs(t, got, &app)
	if !errors.As(want, &wantApp) {
		require.Equal(t, want.Error(), app.Message())
		return
	}
	require.Equal(t, wantApp.Message(), app.Message())
	require.Equal(t, wantApp.Type(), app.Type())
	require.Equal(t, wantApp.Category(), app.Category())
	require.Equal(t, wantApp.HasDetails(), app.HasDetails())
	if app.HasDetails() {
		var want, got receipt
		require.NoError(t, wantApp.Details(&want))
		require.NoError(t, app.Details(&got))
		require.Equal(t, want, got)
	}
	issuer := (*temporal.ApplicationError)(nil)
	require.ErrorAs(t, errors.Unwrap(app), &issuer)
	require.Equal(t, "the issuer said no: insufficient funds (type: Issuer, retryable: true)", issuer.Message())
	require.ErrorAs(t, errors.Unwrap(issuer), &issuer)
	require.Equal(t, "Issuer", issuer.Type())
	require.True(t, issuer.HasDetails())
}

func TestReplay_NeedsNoGoType(t *testing.T) {
	t.Parallel()
	s := newScene(t, encrypted(false))
	s.workWith(s.guard(once.Mark(once.Policy{}, "Anything")...), worker.Options{}, func(r worker.Registry) {
		r.RegisterDynamicActivity(func(_ context.Context, args converter.EncodedValues) (map[string]any, error) {
			var in map[string]any
			if err := args.Get(&in); err != nil {
				return nil, err
			}
			in["seen"] = rand.Text()
			return in, s.ledger.write(charged)
		}, sdkactivity.DynamicRegisterOptions{})
	})
	run := s.start("twice", "twice", call{Activity: "Anything"})
	s.completed(run)
	results := s.results(run)
	require.Len(t, results, 2)
	require.True(t, proto.Equal(results[0], results[1]))
	var got map[string]any
	require.NoError(t, s.options.DataConverter.FromPayloads(results[1], &got))
	require.Equal(t, "order-1", got["Order"])
	require.NotEmpty(t, got["seen"])
	s.count(1, charged)
}

func TestReplay_CrossesWorkflowsThatTheirKeysAreBoundTo(t *testing.T) {
	t.Parallel()
	s := newScene(t, encrypted(true))
	s.work(perOrder, s.charge)
	first := s.start("first", "one", call{})
	s.served(first)
	second := s.start("second", "one", call{})
	s.served(second)
	s.count(1, charged)

	// The codec does refuse what belongs to another workflow.
	var stolen receipt
	bound := converter.WithDataConverterSerializationContext(s.options.DataConverter,
		converter.ActivitySerializationContext{WorkflowID: second.GetID()})
	require.Error(t, bound.FromPayloads(s.results(first)[0], &stolen))
	require.NoError(t, bound.FromPayloads(s.results(second)[0], &stolen))
}

func TestReplay_LockedFailureCrossesWorkflowsThatTheirKeysAreBoundTo(t *testing.T) {
	t.Parallel()
	s := newScene(t, encrypted(true))
	policy := perOrder
	policy.OnFailure = once.Lock
	s.work(policy, func(_ context.Context, in charge) (receipt, error) {
		if err := s.ledger.write(charged, in.Order); err != nil {
			return receipt{}, err
		}
		return receipt{}, temporal.NewApplicationError("declined", "CardDeclined", receipt{ID: "details"})
	})
	for _, id := range []string{"first", "second"} {
		v := s.verdict(s.start(id, "one", call{}))
		require.Contains(t, v.Failure, "declined (type: CardDeclined, retryable: false)")
		require.Equal(t, "details", v.Details.ID)
		require.False(t, v.MayHaveHappened)
	}
	s.count(1, charged)
}
