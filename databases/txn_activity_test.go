package databases_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/proto"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/txn"
)

var (
	quiet = log.NewStructuredLogger(slog.New(slog.DiscardHandler))
	plain = converter.GetDefaultDataConverter()
)

// transferring is the body of an activity.
type transferring = func(context.Context, transferIn) (receipt, error)

// activityGuard guards the activity Transfer.
func activityGuard(t *testing.T, s store.Store, d *txn.DB, seals converter.DataConverter) *interceptor.Guard {
	t.Helper()
	g, err := interceptor.New(s, interceptor.Options{
		Activities: once.Mark(once.Policy{Key: byTransfer, Scope: keys.PerWorkflow, InDoubt: d.Decides()}, "Transfer"), DataConverter: seals,
		Lease: 300 * time.Millisecond, SettleDelay: time.Hour, HoldRetry: 50 * time.Millisecond,
	})
	require.NoError(t, err)
	return g
}

// attemptOf returns the body as an activity of a worker: each call of it is an attempt.
func attemptOf(t *testing.T, g *interceptor.Guard, body transferring) transferring {
	t.Helper()
	o := client.Options{DataConverter: plain}
	require.NoError(t, g.ConfigureClient(t.Context(), client.PluginConfigureClientOptions{ClientOptions: &o}))
	require.NoError(t, g.NewClient(t.Context(), client.PluginNewClientOptions{ClientOptions: o},
		func(context.Context, client.PluginNewClientOptions) error { return nil }))
	return func(_ context.Context, in transferIn) (r receipt, err error) {
		var s testsuite.WorkflowTestSuite
		s.SetLogger(quiet)
		env := s.NewTestActivityEnvironment()
		env.SetTestTimeout(time.Minute)
		env.SetDataConverter(o.DataConverter).SetContextPropagators(o.ContextPropagators)
		env.SetWorkerOptions(worker.Options{Plugins: []worker.Plugin{g}})
		env.RegisterActivityWithOptions(body, sdkactivity.RegisterOptions{Name: "Transfer"})
		value, err := env.ExecuteActivity("Transfer", in)
		if err != nil {
			return r, err
		}
		return r, value.Get(&r)
	}
}

// recordKinds are stores of the guard; a store is opened again by another call.
var recordKinds = map[string]func(t *testing.T) func(t *testing.T) store.Store{
	"memory": func(*testing.T) func(*testing.T) store.Store {
		s := store.NewMemory(store.MemoryOptions{})
		return func(*testing.T) store.Store { return s }
	},
	"file": func(t *testing.T) func(*testing.T) store.Store {
		t.Helper()
		return work{File: t.TempDir()}.openRecords
	},
	"Redis": func(t *testing.T) func(*testing.T) store.Store {
		t.Helper()
		return work{Redis: startRedis(t)}.openRecords
	},
}

// onRecords runs f over each store of the guard, and a business.
func onRecords(t *testing.T, f func(t *testing.T, open func(*testing.T) store.Store, b *business, d *txn.DB)) {
	t.Helper()
	for name, records := range recordKinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newPostgresBusiness(t)
			b.db = b.again(t)
			b.accounts(t)
			f(t, records(t), b, b.ledger(t, txn.Options{}))
		})
	}
}

func TestTxnActivity_WhatFollowsTheCommitDoesNotUndoIt(t *testing.T) {
	t.Parallel()
	onRecords(t, func(t *testing.T, open func(*testing.T) store.Store, b *business, d *txn.DB) {
		for id, after := range map[string]func(r receipt) (receipt, error){
			"error": func(receipt) (receipt, error) { return receipt{}, errors.New("after the commit") },
			"final": func(receipt) (receipt, error) {
				return receipt{}, temporal.NewNonRetryableApplicationError("no", "No", nil)
			},
			"panic":     func(receipt) (receipt, error) { panic("after the commit") },
			"not done":  func(receipt) (receipt, error) { return receipt{}, once.NotDone(errors.New("so it says")) },
			"pending":   func(receipt) (receipt, error) { return receipt{}, sdkactivity.ErrResultPending },
			"other":     func(receipt) (receipt, error) { return receipt{"another", "one"}, nil },
			"as it was": func(r receipt) (receipt, error) { return r, nil },
		} {
			var done []receipt
			body := func(ctx context.Context, in transferIn) (receipt, error) {
				r, err := work{}.body(b, d, func(string) {})(ctx, in)
				if err != nil {
					return r, err
				}
				done = append(done, r)
				return after(r)
			}
			for range 3 {
				r, err := attemptOf(t, activityGuard(t, open(t), d, nil), body)(t.Context(), transferIn{id})
				require.NoError(t, err, id)
				require.Equal(t, done[0], r, id)
			}
			require.Len(t, done, 1, id)
			require.Equal(t, 1, b.effects(t, id), id)
		}
	})
}

// Processes are killed with an attempt in them.
func TestTxnActivity_KilledProcesses(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"claimed", "written", "commit", "committed", "answered"} {
		for _, records := range []string{"file", "Redis"} {
			t.Run(point+", records in "+records, func(t *testing.T) {
				t.Parallel()
				c := newCampaign(t, newPostgresBusiness(t), records == "Redis")
				c.ledger(t, txn.Options{})
				w := c.work
				w.Activity, w.IDs, w.Nth, w.Point = true, []string{"7"}, 1, point
				c.child(t, w)
				require.Equal(t, 1, c.killed())
				w.Point = ""
				c.child(t, w)
				c.child(t, w)
				require.Len(t, c.answers["7"], 1)
				require.Equal(t, 1, c.effects(t, "7"))
			})
		}
	}
}

// Another run of the workflow, as a reset makes one, is the same effect: from the record, and
// from the marker where there is no record.
func TestTxnActivity_AnotherRunOfTheWorkflowIsTheSameEffect(t *testing.T) {
	t.Parallel()
	onRecords(t, func(t *testing.T, open func(*testing.T) store.Store, b *business, d *txn.DB) {
		body := work{}.body(b, d, func(string) {})
		var want receipt
		for i, s := range []store.Store{open(t), open(t), store.NewMemory(store.MemoryOptions{})} {
			var suite testsuite.WorkflowTestSuite
			suite.SetLogger(quiet)
			env := suite.NewTestWorkflowEnvironment()
			env.SetWorkerOptions(worker.Options{Plugins: []worker.Plugin{activityGuard(t, s, d, plain)}})
			env.RegisterActivityWithOptions(body, sdkactivity.RegisterOptions{Name: "Transfer"})
			env.ExecuteWorkflow(func(ctx workflow.Context) (r receipt, err error) {
				ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
				return r, workflow.ExecuteActivity(ctx, "Transfer", transferIn{"7"}).Get(ctx, &r)
			})
			var r receipt
			require.NoError(t, env.GetWorkflowResult(&r))
			if i == 0 {
				want = r
			}
			require.Equal(t, want, r)
		}
		require.Equal(t, 1, b.effects(t, "7"))
	})
}

// mask is a codec that hides what it encodes, by a key.
type mask byte

func (m mask) flip(data []byte) []byte {
	out := make([]byte, len(data))
	for i, c := range data {
		out[i] = c ^ byte(m)
	}
	return out
}

func (m mask) Encode(ps []*commonpb.Payload) (out []*commonpb.Payload, err error) {
	for _, p := range ps {
		data, err := proto.Marshal(p)
		if err != nil {
			return nil, err
		}
		out = append(out, &commonpb.Payload{Metadata: map[string][]byte{"encoding": {'m', byte(m)}}, Data: m.flip(data)})
	}
	return out, nil
}

func (m mask) Decode(ps []*commonpb.Payload) (out []*commonpb.Payload, err error) {
	for _, p := range ps {
		if string(p.Metadata["encoding"]) != string([]byte{'m', byte(m)}) {
			return nil, errors.New("masked by another key")
		}
		var inner commonpb.Payload
		if err := proto.Unmarshal(m.flip(p.Data), &inner); err != nil {
			return nil, err
		}
		out = append(out, &inner)
	}
	return out, nil
}

// The marker has what the guard's converters made, as the record does, and another converter
// cannot be put in their place.
func TestTxnActivity_TheMarkerHasWhatTheGuardsConvertersMade(t *testing.T) {
	t.Parallel()
	seals, theirs := converter.NewCodecDataConverter(plain, mask(0x55)), converter.NewCodecDataConverter(plain, mask(0x77))
	onRecords(t, func(t *testing.T, open func(*testing.T) store.Store, b *business, d *txn.DB) {
		s := open(t)
		var runs []receipt
		body := func(ctx context.Context, in transferIn) (receipt, error) {
			r, err := work{}.body(b, d, func(string) {})(ctx, in)
			runs = append(runs, r)
			return r, err
		}
		for _, records := range []store.Store{s, s, store.NewMemory(store.MemoryOptions{})} { // the last has forgotten it
			r, err := attemptOf(t, activityGuard(t, records, d, seals), body)(t.Context(), transferIn{"7"})
			require.NoError(t, err)
			require.Equal(t, runs[0], r)
		}
		require.Equal(t, 1, b.effects(t, "7"))
		var marked []byte
		require.NoError(t, b.db.QueryRowContext(t.Context(), "SELECT outcome FROM atmostonce_effects WHERE done_at IS NOT NULL").Scan(&marked))
		require.NotContains(t, string(marked), runs[0].Of, "it is sealed")
		for record, err := range s.List(t.Context(), store.Query{}) {
			require.NoError(t, err)
			require.Equal(t, marked, record.Outcome.Data)
		}
		_, err := attemptOf(t, activityGuard(t, store.NewMemory(store.MemoryOptions{}), d, theirs), body)(t.Context(), transferIn{"7"})
		require.Error(t, err, "sealed by another key")

		g, o := activityGuard(t, s, d, nil), client.Options{DataConverter: plain}
		require.NoError(t, g.ConfigureClient(t.Context(), client.PluginConfigureClientOptions{ClientOptions: &o}))
		o.DataConverter = theirs // a plugin that comes after the guard
		require.ErrorContains(t, g.NewClient(t.Context(), client.PluginNewClientOptions{ClientOptions: o},
			func(context.Context, client.PluginNewClientOptions) error { return nil }), "list the guard last")
	})
}
