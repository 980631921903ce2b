package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/stretchr/testify/require"
	sdkactivity "go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/samples/internal/child"
	"github.com/atmostonce/atmostonce/samples/internal/devserver"
	"github.com/atmostonce/atmostonce/store"
)

// ofProcesses are the causes that lie in a worker or the server.
var ofProcesses = []cause{
	{"worker killed (-9) after the effect", []string{byDefault, failing, asking}, func(x *trial) { workerKilled(x, false) }},
	{"worker killed (-9) before the effect", []string{byDefault, asking}, func(x *trial) { workerKilled(x, true) }},
	{"worker stopped, WorkerStopTimeout 0 (with the guard: 10 s)", []string{byDefault}, func(x *trial) { workerStopped(x, 0, 2*time.Second) }},
	{"worker stopped, WorkerStopTimeout shorter than the body", []string{byDefault, asking}, func(x *trial) { workerStopped(x, 300*time.Millisecond, soon) }},
	{"server killed (-9) and started again while the body runs on", []string{byDefault}, serverKilled},
}

// workerStopped stops a worker whose body, once it has charged, needs so long to
// return.
func workerStopped(x *trial, timeout, needs time.Duration) {
	charges := make(chan struct{})
	w := x.serve(worker.Options{WorkerStopTimeout: timeout}, x.ledger.counted(func(ctx context.Context, _ charge) (receipt, error) {
		r, err := x.ledger.charge()
		close(charges)
		<-sdkactivity.GetWorkerStopChannel(ctx)
		select {
		case <-time.After(needs):
			return r, err
		case <-ctx.Done():
			return receipt{}, ctx.Err()
		}
	}))
	run := x.start("run", "one", call{})
	<-charges
	w.Stop() // under the body, which waits for it
	x.struck++
	x.serve(worker.Options{}, x.ledger.counted())
	x.ends(run)
}

func serverKilled(x *trial) {
	database := filepath.Join(x.dir, "temporal.db")
	begin := func(port int) *devserver.Server {
		own, err := devserver.Start(x.t.Context(), devserver.Options{Port: port, Database: database, Progress: os.Stderr})
		require.NoError(x.t, err)
		x.t.Cleanup(own.Stop)
		return own
	}
	port, err := child.FreePort()
	require.NoError(x.t, err)
	own := begin(port)
	require.Equal(x.t, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), own.Address)
	x.connect(own.Address)
	x.outlives(call{StartToClose: tight}, func(client.WorkflowRun) {
		require.True(x.t, own.Kill(), "the server ended by itself")
		begin(port)
	})
}

// toKillVariable makes a process of this test binary a worker that waits to be
// killed. Its value is a toKill in JSON.
const toKillVariable = "E2E_TO_KILL"

type toKill struct {
	Address, Queue, Dir, Policy string
	Before                      bool // the effect
}

func init() {
	if role := os.Getenv(toKillVariable); role != "" {
		fmt.Fprintln(os.Stderr, beToKill(role))
		os.Exit(1)
	}
}

// beToKill runs the worker; it returns only if that fails.
func beToKill(role string) error {
	var k toKill
	if err := json.Unmarshal([]byte(role), &k); err != nil {
		return err
	}
	l := ledger(filepath.Join(k.Dir, "ledger"))
	o := client.Options{HostPort: k.Address, Logger: quiet}
	if k.Policy != unguarded {
		s, err := store.NewFile(filepath.Join(k.Dir, "store"), store.FileOptions{})
		if err != nil {
			return err
		}
		guard, err := interceptor.New(s, guardOptions(once.Mark(policyOf(k.Policy, l), "Charge")))
		if err != nil {
			return err
		}
		o.Plugins = []client.Plugin{guard}
	}
	c, err := client.Dial(o)
	if err != nil {
		return err
	}
	w := worker.New(c, k.Queue, worker.Options{DisableWorkflowWorker: true})
	register(w, l.counted(func(ctx context.Context, in charge) (receipt, error) {
		if !k.Before {
			if _, err := l.charge(); err != nil {
				return receipt{}, err
			}
		}
		if err := l.write(toBeKilled); err != nil {
			return receipt{}, err
		}
		select {} // until the signal
	}))
	if err := w.Start(); err != nil {
		return err
	}
	select {}
}

// toBeKilled is the ledger's word for a body that waits to be killed.
const toBeKilled = "killable"

func workerKilled(x *trial, before bool) {
	x.openFile()
	role, err := json.Marshal(toKill{Address: server.Address, Queue: x.name, Dir: x.dir, Policy: x.policy, Before: before})
	require.NoError(x.t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), toKillVariable+"="+string(role))
	cmd.Stderr = x.t.Output()
	process, err := child.Start(cmd)
	require.NoError(x.t, err)
	x.t.Cleanup(func() { process.Kill() })
	run := x.start("run", "one", call{StartToClose: tight})
	x.eventually(func() bool { return len(x.ledger.lines(toBeKilled)) == 1 }, "the body waits to be killed")
	require.True(x.t, process.Kill(), "the worker process ended by itself")
	x.struck++
	x.serve(worker.Options{}, x.ledger.counted())
	x.ends(run)
}
