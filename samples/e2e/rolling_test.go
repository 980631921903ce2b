package e2e

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/atmostonce/atmostonce/samples/internal/child"
	"github.com/atmostonce/atmostonce/store"
)

// rolling is a workflow that sends its own input to the activity, whatever
// fields that has.
func rolling(ctx workflow.Context, input map[string]any) (v verdict, err error) {
	// Without heartbeats, this timeout is what a killed worker is noticed by.
	c := call{StartToClose: 3 * time.Second}
	err = workflow.ExecuteActivity(c.context(ctx), "Charge", input).Get(ctx, &v.Receipt)
	return v.of(err), nil
}

// The activity's input has another Go type in each build, and the call one key.
func TestRollingDeploy_OneBuildReplaysWhatTheOtherDid(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	builds := map[string]string{"v1": filepath.Join(dir, "v1"), "v2": filepath.Join(dir, "v2")}
	for tag, binary := range builds {
		out, err := exec.CommandContext(t.Context(), "go", "build", "-tags", tag, "-o", binary, "./rolling").CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	for order, tc := range map[string]struct {
		first, second string
		input         map[string]any
	}{
		"the new one what the old one did": {"v1", "v2", map[string]any{"Order": "order-1", "Cents": 1200}},
		"the old one what the new one did": {"v2", "v1", map[string]any{"Order": "order-1", "Cents": 1200, "Currency": "EUR"}},
	} {
		for _, end := range []string{"charged", "recorded", "stopped"} {
			t.Run(order+", "+end, func(t *testing.T) {
				t.Parallel()
				s := newRollingScene(t)
				first := s.process(builds[tc.first], end)
				run := s.rolling(tc.input)
				if end == "stopped" {
					s.served(run)
					first.Stop(soon)
					require.NoError(t, first.Err())
					s.process(builds[tc.second], "")
					run = s.rolling(tc.input)
				} else {
					<-first.Done()
					require.True(t, first.Kill(), "the process ended by itself: %v", first.Err())
					s.process(builds[tc.second], "")
				}
				s.served(run)
				require.Equal(t, []string{tc.first + " order-1"}, s.ledger.lines(charged))
				require.Equal(t, end == "charged", s.record(store.Succeeded).By == store.ByReconcile)
			})
		}
	}
}

// newRollingScene is a scene for workflows of type rolling, with a store for
// workers in processes of their own.
func newRollingScene(t *testing.T) *scene {
	t.Helper()
	s := newScene(t, client.Options{})
	s.openFile()
	s.name += "-rolling" // the scene's own worker does not see this queue
	w := worker.New(s.client, s.name, worker.Options{LocalActivityWorkerOnly: true})
	w.RegisterWorkflowWithOptions(rolling, workflow.RegisterOptions{Name: "rolling"})
	require.NoError(t, w.Start())
	t.Cleanup(w.Stop)
	return s
}

// process starts a worker of that build, which dies after that step.
func (s *scene) process(binary, die string) *child.Process {
	s.t.Helper()
	cmd := exec.Command(binary, "-address", server.Address, "-queue", s.name,
		"-store", filepath.Join(s.dir, "store"), "-ledger", string(s.ledger), "-die", die)
	cmd.Stderr = s.t.Output()
	process, err := child.Start(cmd)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { process.Kill() })
	return process
}

// rolling starts the workflow of that type, under the same ID each time.
func (s *scene) rolling(input map[string]any) client.WorkflowRun {
	s.t.Helper()
	run, err := s.client.ExecuteWorkflow(s.t.Context(), client.StartWorkflowOptions{ID: s.name, TaskQueue: s.name}, "rolling", input)
	require.NoError(s.t, err)
	s.runs = append(s.runs, run)
	return run
}
