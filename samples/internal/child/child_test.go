package child_test

import (
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/samples/internal/child"
)

func TestStop_AsksFirst(t *testing.T) {
	t.Parallel()
	p := startShell(t, `trap 'exit 0' TERM; echo; while :; do sleep 0.01; done`)
	p.Stop(time.Minute)
	require.NoError(t, p.Err())
}

func TestStop_KillsWhatWillNotEnd(t *testing.T) {
	t.Parallel()
	p := startShell(t, `trap '' TERM; echo; while :; do sleep 0.01; done`)
	p.Stop(50 * time.Millisecond)
	require.ErrorContains(t, p.Err(), "killed")
}

func TestKill_TellsWhetherItDid(t *testing.T) {
	t.Parallel()
	require.True(t, startShell(t, `echo; sleep 60`).Kill())

	ended := startShell(t, `echo`)
	<-ended.Done()
	require.False(t, ended.Kill())
}

// startShell starts a script and returns when it has written its first line.
func startShell(t *testing.T, script string) *child.Process {
	t.Helper()
	written := make(chan struct{}, 100)
	cmd := exec.Command("sh", "-c", script)
	cmd.Stdout = writer(written)
	// A grandchild may keep the output open.
	cmd.WaitDelay = 10 * time.Millisecond
	p, err := child.Start(cmd)
	require.NoError(t, err)
	t.Cleanup(func() { p.Kill() })
	<-written
	return p
}

type writer chan struct{}

func (w writer) Write(b []byte) (int, error) {
	w <- struct{}{}
	return len(b), nil
}
