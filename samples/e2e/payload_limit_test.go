package e2e

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	namespacepb "go.temporal.io/api/namespace/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/worker"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

const sizeLimit = 2 << 20 // of a result, at Temporal

// encodedIn returns bytes that take n bytes in the history.
func encodedIn(t *testing.T, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	for {
		p, err := converter.GetDefaultDataConverter().ToPayloads(b)
		require.NoError(t, err)
		over := proto.Size(p) - n
		if over == 0 {
			return b
		}
		b = b[:len(b)-over]
	}
}

// tellsItsLimit are the options of a client whose server announces its limit, so
// that the SDK applies it.
func tellsItsLimit() client.Options {
	tell := func(ctx context.Context, method string, request, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, o ...grpc.CallOption) error {
		err := invoke(ctx, method, request, reply, cc, o...)
		if d, ok := reply.(*workflowservice.DescribeNamespaceResponse); ok && err == nil {
			d.NamespaceInfo.Limits = &namespacepb.NamespaceInfo_Limits{BlobSizeLimitError: sizeLimit}
		}
		return err
	}
	return client.Options{ConnectionOptions: client.ConnectionOptions{DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(tell)}}}
}

// A result over the limit becomes a failure after the guard has recorded a
// success: at the server, or already in the worker if the server announces its
// limit.
func TestReplay_AtTheLimitOfTheServer(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		options client.Options
		size    int
		reason  once.Reason
	}{
		"kept":                  {client.Options{}, sizeLimit, ""},
		"refused by the server": {client.Options{}, sizeLimit + 1, ""},
		"refused by the SDK":    {tellsItsLimit(), sizeLimit + 1, once.OutcomeNotKept},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, tc.options)
			result := encodedIn(t, tc.size)
			s.workWith(s.guard(once.Mark(once.Policy{}, "Charge")...), worker.Options{}, func(r worker.Registry) {
				register(r, func(context.Context, charge) ([]byte, error) { return result, s.ledger.write(charged) })
			})
			if name == "kept" {
				run := s.start("twice", "twice", call{})
				s.completed(run)
				results, sizes := s.results(run), []int{}
				for _, r := range results {
					sizes = append(sizes, proto.Size(r))
				}
				require.Equal(t, []int{sizeLimit, sizeLimit}, sizes)
				require.True(t, proto.Equal(results[0], results[1]))
				s.count(1, charged)
				return
			}
			v := s.verdict(s.start("large", "one", call{}))
			require.NotEmpty(t, v.Failure)
			require.Equal(t, tc.reason, v.Why.Reason)
			require.True(t, v.MayHaveHappened)
			s.count(1, charged)
			require.Len(t, s.events.kind(observe.KindExecute), 1)
			require.NotEmpty(t, s.record(store.Succeeded).Outcome.Missing)
		})
	}
}
