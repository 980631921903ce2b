package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/store"
)

// buildTool builds the operator's tool, and returns a directory for the PATH in which it
// is an extension of Temporal's CLI.
func buildTool(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	build := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(bin, "temporal-atmostonce"), ".")
	build.Dir = filepath.Join("..", "..", "cmd", "temporal-atmostonce")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	// As Temporal's CLI does from version 1.6.
	require.NoError(t, os.WriteFile(filepath.Join(bin, "temporal"), []byte("#!/bin/sh\nname=$1\nshift\nexec \"temporal-$name\" \"$@\"\n"), 0o755))
	return bin
}

// From the error that Temporal shows, by the command that it ends in, to the end of the
// workflow: who waits, that it need not wait any longer, and which workers have no guard,
// as the server says.
func TestTool_DecidesOnAServer(t *testing.T) {
	t.Parallel()
	bin := buildTool(t)
	s := newScene(t, client.Options{WorkerHeartbeatInterval: time.Second})
	s.openFile()
	run := s.killed("Hold", false, doomedCall)
	o := guardOptions(once.Mark(once.Policy{}, "Charge"), s.events)
	o.HoldRetry = time.Hour
	guard, err := interceptor.New(s.store, o)
	require.NoError(t, err)
	s.workWith(guard, worker.Options{}, func(r worker.Registry) { register(r, s.charge) })
	refused := s.held(run, once.InDoubt)

	sh := func(command string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "sh", "-c", command)
		cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + bin, "ATMOSTONCE_STORE=file:" + filepath.Join(s.dir, "store"), "TEMPORAL_ADDRESS=" + server.Address}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s: %s", command, out)
		return string(out)
	}
	waits := regexp.MustCompile(`in doubt .*attempt [0-9]+, next in [0-9]+m`)
	s.eventually(func() bool { return waits.MatchString(sh("temporal atmostonce list")) }, "after the settle delay it waits for the hour")
	show := regexp.MustCompile(`temporal atmostonce show [0-9a-f]{16}`).FindString(refused.Error())
	shown := sh(show)
	require.Contains(t, shown, run.GetID())
	require.Regexp(t, `Waiting +attempt [0-9]+, next in [0-9]+m`, shown)
	s.eventually(func() bool {
		said := sh("temporal atmostonce doctor --task-queue '" + s.name + "'")
		return strings.Contains(said, "2 have the guard") && strings.Contains(said, "of task queue "+s.name+" has no guard")
	}, "the heartbeats of the killed worker, of its successor, and of the worker of workflows")

	decided := sh(strings.Replace(show, " show ", " resolve ", 1) + ` --done --result '{"ID":"found by hand"}' --reason INC-812 --retry-now --yes`)
	require.Contains(t, decided, "again now")
	require.Equal(t, "found by hand", s.verdict(run).Receipt.ID, "long before the hour is over")
	s.count(1, charged)
	require.Equal(t, store.Succeeded, s.record(store.Succeeded).State)
}
