// Command resume pays 300 wages in one long activity (300 short steps stand for
// half an hour) while its worker is replaced twice: first by a deployment, which
// asks the process to end, then because it is killed in the middle of a payment.
// Each wage is paid once.
//
// Each payment is a step of the activity, with a record of its own. After each
// interruption a retry runs the activity again; the guard keeps everybody else out, and
// lets it begin only when the settle delay is over and no request of the killed worker is
// on its way any more. Steps that were finished are not run again: see PayAll.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/samples/internal/child"
	"github.com/atmostonce/atmostonce/samples/internal/provider"
	"github.com/atmostonce/atmostonce/samples/internal/stage"
	"github.com/atmostonce/atmostonce/store"
)

// isWorker makes a process of this program a worker.
const isWorker = "RESUME_WORKER"

func main() {
	if os.Getenv(isWorker) == "" {
		stage.Main(play)
		return
	}
	if err := work(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// work is a worker process. Each has a guard of its own; what they share is the
// directory of the store.
func work(temporal, queue, dir, bank string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	records, err := store.NewFile(dir, store.FileOptions{})
	if err != nil {
		return err
	}
	defer records.Close()
	payroll := &Payroll{Provider: provider.Client{URL: bank}}
	guard, err := interceptor.New(records, interceptor.Options{
		Activities: guarded(payroll),
		// Short, so that the sample is. The defaults are 60 s and 30 s.
		Lease: 5 * time.Second, SettleDelay: 2 * time.Second,
	})
	if err != nil {
		return err
	}
	s := &stage.Stage{Temporal: temporal, Queue: queue}
	defer s.Close()
	if _, err := s.Work(ctx, client.Options{Plugins: []client.Plugin{guard}}, Pay, payroll); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func play(ctx context.Context, s *stage.Stage) error {
	m := Month{Name: "2026-01", People: 300}
	const deployAt, killAt = 99, 199
	// The provider books this wage and does not answer.
	if err := s.Provider.Arm(ctx, provider.Fault{Order: m.wage(killAt), Kind: provider.Hold, Times: 1}); err != nil {
		return err
	}
	c, err := s.Dial(ctx, client.Options{}) // which runs no activities, so it needs no guard
	if err != nil {
		return err
	}
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{TaskQueue: s.Queue}, Pay, m)
	if err != nil {
		return err
	}

	first, err := startWorker(ctx, s)
	if err != nil {
		return err
	}
	defer first.Kill()
	if err := s.AwaitCharge(ctx, m.wage(deployAt)); err != nil {
		return err
	}
	first.Stop(30 * time.Second)
	second, err := startWorker(ctx, s)
	if err != nil {
		return err
	}
	defer second.Kill()
	if err := tell(s, "deployed, by SIGTERM"); err != nil {
		return err
	}

	if err := s.AwaitCharge(ctx, m.wage(killAt)); err != nil {
		return err
	}
	second.Kill()
	if err := s.Provider.LetGo(ctx, m.wage(killAt)); err != nil {
		return err
	}
	if err := tell(s, "killed, by SIGKILL, before the answer to a payment"); err != nil {
		return err
	}
	third, err := startWorker(ctx, s)
	if err != nil {
		return err
	}
	defer third.Stop(30 * time.Second)

	var r Report
	if err := run.Get(ctx, &r); err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "the last worker was given %d payments by their records, found %d more at the provider, and made %d\n", r.Resumed, r.Found, r.Paid)
	return tell(s, "done")
}

// startWorker starts this program as a worker process.
func startWorker(ctx context.Context, s *stage.Stage) (*child.Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, s.Temporal, s.Queue, filepath.Join(s.Dir, "records"), s.Provider.URL)
	cmd.Env = append(os.Environ(), isWorker+"=yes")
	cmd.Stderr = os.Stderr
	return child.Start(cmd)
}

func tell(s *stage.Stage, what string) error {
	charged, err := s.Charged()
	twice := 0
	for _, times := range charged {
		if times > 1 {
			twice++
		}
	}
	fmt.Fprintf(s.Out, "%s: %d wages on the ledger, %d of them twice\n", what, len(charged), twice)
	return err
}
