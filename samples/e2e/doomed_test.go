package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/samples/internal/child"
	"github.com/atmostonce/atmostonce/store"
)

// doomedVariable makes a process of this test binary a worker that will be
// killed. Its value is a doomed in JSON.
const doomedVariable = "E2E_DOOMED"

// doomed says what such a worker does.
type doomed struct {
	Address, Queue, Dir string
	Postgres            string // the database that has the store; "": a directory in Dir
	Policy              string
	// Before has it wait to be killed before the effect instead of after it.
	Before bool
}

// beDoomed runs the worker; it returns only if that fails.
func beDoomed(role string) error {
	var d doomed
	if err := json.Unmarshal([]byte(role), &d); err != nil {
		return err
	}
	s, err := d.openStore()
	if err != nil {
		return err
	}
	l := ledger(filepath.Join(d.Dir, "ledger"))
	guard, err := interceptor.New(s, guardOptions(once.Mark(policies(l)[d.Policy], "Charge")))
	if err != nil {
		return err
	}
	c, err := client.Dial(client.Options{HostPort: d.Address, Logger: quiet, Plugins: []client.Plugin{guard}})
	if err != nil {
		return err
	}
	w := worker.New(c, d.Queue, worker.Options{DisableWorkflowWorker: true})
	register(w, func(ctx context.Context, in charge) (receipt, error) {
		sdkactivity.RecordHeartbeat(ctx, "half of it")
		word := charged
		if d.Before {
			word = begun
		}
		if err := l.write(word, in.Order); err != nil {
			return receipt{}, err
		}
		select {} // until the signal
	})
	if err := w.Start(); err != nil {
		return err
	}
	select {}
}

func (d doomed) openStore() (store.Store, error) {
	if d.Postgres == "" {
		return store.NewFile(filepath.Join(d.Dir, "store"), store.FileOptions{})
	}
	s, _, err := openSQL(d.Postgres)
	return s, err
}

// killed runs a call on a worker in a process of its own, and kills that
// process once the body has written its line and before it can return. It
// returns the workflow's run; no worker is left.
func (s *scene) killed(policy string, before bool, c call) client.WorkflowRun {
	s.t.Helper()
	role, err := json.Marshal(doomed{Address: server.Address, Queue: s.name, Dir: s.dir, Postgres: s.postgres, Policy: policy, Before: before})
	require.NoError(s.t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), doomedVariable+"="+string(role))
	cmd.Stderr = s.t.Output()
	process, err := child.Start(cmd)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { process.Kill() })
	run := s.start("doomed", "one", c)
	word := charged
	if before {
		word = begun
	}
	s.eventually(func() bool { return len(s.ledger.lines(word)) == 1 }, "the body writes its line")
	require.True(s.t, process.Kill(), "the worker process ended by itself")
	require.Equal(s.t, store.Running, s.record(store.Running).State)
	return run
}

// policies are those that a doomed worker and its survivor can agree on.
func policies(l ledger) map[string]once.Policy {
	all := map[string]once.DoubtPolicy{
		"Hold":    once.Hold,
		"HoldFor": once.HoldFor(holdFor),
		"Fail":    once.Fail,
		"Resume":  once.Resume,
		"Rerun":   once.Rerun,
		"Reconcile": once.Reconcile(func(_ context.Context, in charge) (receipt, error) {
			if err := l.write(asked, in.Order); err != nil {
				return receipt{}, err
			}
			for _, order := range l.lines(charged) {
				if order == in.Order {
					return receiptOf(in), nil
				}
			}
			return receipt{}, once.ErrNotDone
		}),
	}
	complete := map[string]once.Policy{}
	for name, p := range all {
		complete[name] = once.Policy{InDoubt: p}
	}
	return complete
}

func openFile(t *testing.T, dir string) store.Store {
	t.Helper()
	f, err := store.NewFile(dir, store.FileOptions{})
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	})
	return f
}
