package interceptor_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/redisstore"
)

// held is the policy of the bodies that have effects.
var held = once.Policy{InDoubt: once.Hold, Scope: keys.PerNamespace, Key: keys.From(byOrder)}

// oneAttempt is how long an attempt of them may take.
const oneAttempt = 700 * time.Millisecond

// effect is a line of the ledger.
type effect struct {
	Order  string
	Looked time.Time // right before the look that came before it
	Child  bool      // it is the first owner's
}

// have looks, and writes an effect down by one system call.
func (e effect) have(ctx context.Context, ledger *os.File) (receipt, error) {
	e.Looked = time.Now()
	line, err := json.Marshal(e)
	if err != nil {
		return receipt{}, err
	}
	line = append(line, '\n')
	if ctx.Err() != nil {
		return receipt{}, ctx.Err()
	}
	_, err = ledger.Write(line)
	return receipt{ID: e.Order}, err
}

func openLedger(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// act runs an activity for each order that comes in, which has its effect some
// time later.
func (c suspended) act(t *testing.T) {
	t.Helper()
	g, ledger := c.guard(t, held), openLedger(t, c.Ledger)
	ready := func() { fmt.Println(`{"Ready": true}`) } //nolint:forbidigo // to the parent
	ready()
	body := func(ctx context.Context, in charge) (receipt, error) {
		for end := time.Now().Add(rand.N(oneAttempt * 3 / 4)); time.Now().Before(end); {
			if ctx.Err() != nil {
				return receipt{}, ctx.Err()
			}
			<-time.After(2 * time.Millisecond)
		}
		return effect{Order: in.Order, Child: true}.have(ctx, ledger)
	}
	for orders := bufio.NewScanner(os.Stdin); orders.Scan(); {
		order := orders.Text()
		go func() {
			var suite testsuite.WorkflowTestSuite
			suite.SetLogger(quiet)
			env := suite.NewTestWorkflowEnvironment()
			env.SetWorkerOptions(worker.Options{Plugins: []worker.Plugin{g}})
			env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: order, TaskQueue: "queue"})
			began := sync.OnceFunc(ready)
			defer began() // under load it may come too late for a body
			env.RegisterActivityWithOptions(func(ctx context.Context, in charge) (receipt, error) {
				began()
				return body(ctx, in)
			}, sdkactivity.RegisterOptions{Name: "ChargeCard"})
			env.ExecuteWorkflow(func(ctx workflow.Context) error {
				ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
					StartToCloseTimeout: oneAttempt, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1},
				})
				return workflow.ExecuteActivity(ctx, "ChargeCard", charge{Order: order}).Get(ctx, nil)
			})
		}()
	}
}

// effects reads the ledger.
func effects(t *testing.T, ledger string) map[string][]effect {
	t.Helper()
	text, err := os.ReadFile(ledger)
	if err != nil {
		t.Error(err)
	}
	all := map[string][]effect{}
	for line := range strings.Lines(string(text)) {
		if !strings.HasSuffix(line, "\n") {
			break // it is being written
		}
		var e effect
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Error(err)
		}
		all[e.Order] = append(all[e.Order], e)
	}
	return all
}

// operate decides about what is in doubt, at once, as often as it takes, until ctx
// ends. It returns how often it was refused, and what it said did not happen.
func operate(ctx context.Context, t *testing.T, s store.Store, g *interceptor.Guard, ledger string, force bool) (early int, opened map[string]bool) {
	opened = map[string]bool{}
	for ctx.Err() == nil {
		for r, err := range s.List(ctx, store.Query{State: store.InDoubt}) {
			if err != nil {
				break
			}
			finding, d := resolve.AsNotDone(), byAnn("asked the callee")
			d.Force = force
			if len(effects(t, ledger)[r.Info.Holder.WorkflowID]) > 0 {
				finding = resolve.AsDone(receipt{})
			}
			switch _, err := g.Resolve(ctx, r, finding, d); {
			case errors.Is(err, resolve.ErrTooEarly):
				early++
			case err == nil && finding == resolve.AsNotDone():
				opened[r.Info.Holder.WorkflowID] = true
			case err != nil && !errors.Is(err, store.ErrMoved) && ctx.Err() == nil:
				t.Error(err)
			}
		}
		<-time.After(5 * time.Millisecond)
	}
	return early, opened
}

// An owner that was suspended may still be alive when an operator decides: it does
// not act if the operator waits, nor, since it looks, if the operator forces.
func TestSuspended_OwnerDoesNotActAfterAnOperatorHasDecided(t *testing.T) {
	for name, force := range map[string]bool{"waits": false, "forces": true} {
		t.Run(name, func(t *testing.T) {
			const rounds, orders = 11, 30
			addr, ledger := startRedis(t), filepath.Join(t.TempDir(), "ledger")
			file := openLedger(t, ledger)
			c := suspended{Redis: addr, Ledger: ledger}
			p, g := startSuspended(t, c), c.guard(t, held)
			rdb := redis.NewClient(&redis.Options{Addr: addr})
			t.Cleanup(func() { _ = rdb.Close() })
			s, err := redisstore.New(rdb, redisstore.Options{})
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			var early int
			var opened map[string]bool
			var operator sync.WaitGroup
			operator.Go(func() { early, opened = operate(ctx, t, s, g, ledger, force) })
			stopped := map[string]period{}
			for round := range rounds {
				var again sync.WaitGroup
				for n := range orders {
					_, err := fmt.Fprintf(p.in, "%d-%d\n", round, n)
					require.NoError(t, err)
				}
				for range orders { // until the bodies have begun
					require.NoError(t, p.said.Decode(&glance{}))
				}
				<-time.After(rand.N(oneAttempt / 4))
				require.NoError(t, p.suspend(func(from time.Time) {
					for n := range orders {
						in := charge{Order: fmt.Sprint(round, "-", n)}
						again.Go(func() { comesAgain(t, g, file, in) })
					}
					<-time.After([]time.Duration{aStop, 3 * oneAttempt / 2}[round%2])
					for n := range orders {
						stopped[fmt.Sprint(round, "-", n)] = period{from, time.Now()}
					}
				}))
				again.Wait()
			}
			<-time.After(oneAttempt)
			cancel()
			operator.Wait()
			all, hit, window := effects(t, ledger), 0, 0
			require.Len(t, all, rounds*orders, "no effect is lost")
			for order, had := range all {
				if opened[order] {
					hit++
				}
				if len(had) == 1 {
					continue
				}
				if had[0].Child && had[0].Looked.Before(stopped[order].from) || had[1].Child && had[1].Looked.Before(stopped[order].from) {
					window++ // it was stopped between its look and its effect
					continue
				}
				assert.Len(t, had, 1, "%s: stopped from %v to %v: %v", order, stopped[order].from, stopped[order].to, had)
			}
			t.Logf("%d of %d keys were stopped before their effect; %d decisions came too early; %d stops came between look and effect", hit, len(all), early, window)
			require.Greater(t, hit, len(all)/4)
			require.Equal(t, name == "waits", early > 0)
		})
	}
}

// comesAgain calls until the call is answered, as Temporal does.
func comesAgain(t *testing.T, g *interceptor.Guard, ledger *os.File, in charge) {
	t.Helper()
	for t.Context().Err() == nil {
		_, err := execute(t, g, func(ctx context.Context, in charge) (receipt, error) {
			return effect{Order: in.Order}.have(ctx, ledger)
		}, in)
		if err == nil {
			return
		}
		<-time.After(20 * time.Millisecond)
	}
}
