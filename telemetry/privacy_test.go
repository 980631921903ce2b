package telemetry_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.temporal.io/sdk/temporal"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
)

// secret is in every key, input, result and error of TestOTel_TellsNoSecret.
const secret = "4111-1111-1111-1111"

// exported returns all that leaves the process, as text.
func (b *bench) exported(t *testing.T) string {
	t.Helper()
	spans, err := json.Marshal(tracetest.SpanStubsFromReadOnlySpans(b.spans.Ended()))
	require.NoError(t, err)
	var all metricdata.ResourceMetrics
	require.NoError(t, b.reader.Collect(context.Background(), &all))
	metrics, err := json.Marshal(all)
	require.NoError(t, err)
	b.lines.mu.Lock()
	defer b.lines.mu.Unlock()
	logged := ""
	for _, line := range b.lines.all {
		if strings.HasPrefix(line, "WARN atmostonce") { // the SDK's own lines show errors
			logged += line
		}
	}
	return string(spans) + string(metrics) + logged
}

func TestOTel_TellsNoSecret(t *testing.T) {
	t.Parallel()
	in := charge{Order: secret, Note: secret}
	reveal := func(context.Context, charge) (string, error) { return secret, nil }
	refuse := failing(temporal.NewApplicationError(secret, "CardDeclined", secret))
	var asked atomic.Bool
	find := func(context.Context, charge) (string, error) {
		asked.Store(true)
		return "", errors.New(secret)
	}
	byKey := func(p once.Policy) setup {
		p.Key, p.Scope = keys.From(byOrder), keys.PerWorkflow
		return setup{policy: p}
	}
	noKey := keys.FromCall(func(keys.Call) (string, error) { return "", errors.New(secret) })
	reconciling := byKey(once.Policy{InDoubt: once.Reconcile(find)})
	reconciling.lease = 60 * time.Millisecond
	for name, c := range map[string]struct {
		setup setup
		calls func(t *testing.T, b *bench)
		shows []string // what the export must contain, or the search proves nothing
	}{
		"execute and duplicate": {byKey(once.Policy{}), func(t *testing.T, b *bench) {
			require.NoError(t, b.call(reveal, in))
			require.NoError(t, b.call(reveal, in))
		}, []string{"atmostonce.execute", "atmostonce.duplicate", "WARN atmostonce: same_run"}},
		"failure and its duplicate": {byKey(once.Policy{OnFailure: once.Lock}), func(t *testing.T, b *bench) {
			require.Error(t, b.call(refuse, in))
			require.Error(t, b.call(refuse, in))
		}, []string{"atmostonce.execute", "atmostonce.duplicate", "CardDeclined"}},
		"mismatch": {byKey(once.Policy{}), func(t *testing.T, b *bench) {
			require.NoError(t, b.call(reveal, in))
			require.Error(t, b.call(reveal, charge{Order: secret, Note: "other " + secret}))
		}, []string{"atmostonce.fail", "mismatch"}},
		"reject": {byKey(once.Policy{OnDuplicate: once.Reject}), func(t *testing.T, b *bench) {
			require.NoError(t, b.call(reveal, in))
			require.Error(t, b.call(reveal, in))
		}, []string{"atmostonce.fail"}},
		"wait": {byKey(once.Policy{OnDuplicate: once.Wait}), func(t *testing.T, b *bench) {
			wait(t, b, in)
		}, []string{"atmostonce.wait", "completed"}},
		"in doubt": {byKey(once.Policy{InDoubt: once.Fail}), func(t *testing.T, b *bench) {
			require.Error(t, b.call(failing(once.MaybeDone(errors.New(secret))), in))
			require.Error(t, b.call(reveal, in))
		}, []string{"atmostonce.fail", "WARN atmostonce: in_doubt"}},
		"reconcile that fails": {reconciling, func(t *testing.T, b *bench) {
			require.Error(t, b.call(failing(once.MaybeDone(errors.New(secret))), in))
			require.Eventually(t, func() bool {
				_ = b.call(reveal, in)
				return asked.Load()
			}, soon, 10*time.Millisecond)
		}, []string{"atmostonce.fail", "reconciled"}},
		"bad key": {setup{policy: once.Policy{Scope: keys.PerWorkflow, Key: noKey}}, func(t *testing.T, b *bench) {
			require.Error(t, b.call(reveal, in))
		}, []string{"bad_key"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, c.setup)
			c.calls(t, b)
			text := b.exported(t)
			for _, shown := range c.shows {
				require.Contains(t, text, shown)
			}
			require.False(t, strings.Contains(text, secret), "somewhere in %d bytes", len(text)) //nolint:testifylint // the text is too long to show
		})
	}
}

// panicking is an observer at its worst.
type panicking struct{}

func (panicking) Begin(ctx context.Context, e interceptor.Event) (context.Context, func(interceptor.Event)) {
	if e.Kind == interceptor.Claim {
		return ctx, func(interceptor.Event) { panic("at the end") }
	}
	panic("at the beginning")
}

func (panicking) Trace(context.Context) string {
	panic("while tracing")
}

func TestObserver_PanicChangesNoOutcome(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{observers: []interceptor.Observer{panicking{}}})
	runs := 0
	for range 2 {
		v, err := b.environment(func(context.Context, charge) (string, error) { runs++; return "receipt", nil }).
			ExecuteActivity("ChargeCard", charge{Order: "7"})
		require.NoError(t, err)
		var got string
		require.NoError(t, v.Get(&got))
		require.Equal(t, "receipt", got)
	}
	require.Equal(t, 1, runs)
	require.Equal(t, sdktrace.Status{}, b.span(t, "atmostonce.execute ChargeCard").Status())
	b.span(t, "atmostonce.duplicate ChargeCard")
}
