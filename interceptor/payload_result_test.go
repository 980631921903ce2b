package interceptor_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"
	"google.golang.org/protobuf/proto"
)

// returning is an activity that returns v and counts its runs.
func returning[T any](v T) func(runs *int) any {
	return func(runs *int) any {
		return func(context.Context) (T, error) { *runs++; return v, nil }
	}
}

func TestResult_IsWhatTheUnguardedActivityReturns(t *testing.T) {
	t.Parallel()
	type nested struct {
		At    time.Time
		Inner *receipt
		Any   any
	}
	for name, activity := range map[string]func(runs *int) any{
		"nil pointer":            returning[*receipt](nil),
		"zero struct":            returning(receipt{}),
		"pointer":                returning(&receipt{ID: "7"}),
		"nested":                 returning(nested{At: time.Unix(1, 2).UTC(), Inner: &receipt{ID: "7"}, Any: id}),
		"nil map":                returning[map[string]int](nil),
		"empty map":              returning(map[string]int{}),
		"nil slice":              returning[[]int](nil),
		"empty slice":            returning([]int{}),
		"bytes":                  returning([]byte{0, 255, '\n'}),
		"nil bytes":              returning[[]byte](nil),
		"empty bytes":            returning([]byte{}),
		"empty string":           returning(""),
		"false":                  returning(false),
		"large integer":          returning(id),
		"large integer, untyped": returning[any](id),
		"nil interface":          returning[any](nil),
		"message":                returning(execution),
		"empty message":          returning(&commonpb.WorkflowExecution{}),
		"nil message":            returning[*commonpb.WorkflowExecution](nil),
		"raw value":              returning(raw("own/encoding", "\x00data")),
		"raw value of JSON":      returning(raw(converter.MetadataEncodingJSON, `{ "spelled": "as it is" }`)),
		"encoded already":        returning(&commonpb.Payloads{Payloads: []*commonpb.Payload{raw("own", "1").Payload()}}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, runs := memory(), 0
			call := func(env *testsuite.TestActivityEnvironment) (has bool, got converter.RawValue) {
				env.RegisterActivityWithOptions(activity(&runs), sdkactivity.RegisterOptions{Name: "ChargeCard"})
				v, err := env.ExecuteActivity("ChargeCard")
				require.NoError(t, err)
				if v.HasValue() {
					require.NoError(t, v.Get(&got))
				}
				return v.HasValue(), got
			}
			has, want := call(environment(t).SetDataConverter(saltedConverter()))
			for _, install := range []installation{asClientPlugin, asWorkerPlugin, asClientPlugin} {
				hasToo, got := call(install(t, s))
				require.Equal(t, has, hasToo)
				require.True(t, proto.Equal(want.Payload(), got.Payload()), "%v\n%v", want.Payload(), got.Payload())
			}
			require.Equal(t, 2, runs, "once without the guard, once with it")
		})
	}
}
