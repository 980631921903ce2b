//go:build linux || darwin

package store_test

import (
	"context"
	"errors"
	"io"
	"net/rpc"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/storetest"
)

// One handle of four is in a process of its own, and dies by SIGKILL. Nothing
// here is about what the disk keeps.
func TestFile_Linearizable(t *testing.T) {
	t.Parallel()
	storetest.Histories(t, func(t *testing.T) storetest.Harness {
		dir, opened := memoryDir(t), 0
		return storetest.Harness{
			Open: func(tb testing.TB) store.Store {
				if opened++; opened%4 == 1 {
					return startRemote(tb, dir)
				}
				return openFile(tb, dir)
			},
			Die: func(tb testing.TB, s store.Store, _ time.Duration) {
				tb.Helper()
				if r, remote := s.(*remoteFile); remote {
					r.kill()
					return
				}
				require.NoError(tb, s.(*store.File).Close())
			},
			LeaseByLock: true,
		}
	}, *histories)
}

// memoryDir returns a directory in memory where the host has one.
func memoryDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "atmostonce-") //nolint:usetesting // TempDir is on a disk
	if err != nil {
		return tb.TempDir()
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// remoteDir tells a re-executed test binary to serve that directory.
const remoteDir = "ATMOSTONCE_TEST_FILE_REMOTE"

// TestFile_Remote is the other process of TestFile_Linearizable. On its own it
// does nothing.
func TestFile_Remote(t *testing.T) {
	dir := os.Getenv(remoteDir)
	if dir == "" {
		return
	}
	server := rpc.NewServer()
	require.NoError(t, server.RegisterName("File", RemoteService{openFile(t, dir)}))
	server.ServeConn(stdio{os.Stdin, os.Stdout})
}

// stdio are the two pipes between a process and the one that started it.
type stdio struct {
	io.ReadCloser
	io.Writer
}

// RemoteCall is a call of a Store. Package rpc wants it exported.
type RemoteCall struct {
	Verb       string
	Key        string
	Bid        store.Bid
	Outcome    store.Outcome
	From       store.Record
	Resolution store.Resolution
}

// RemoteAnswer is what a RemoteCall is answered.
type RemoteAnswer struct {
	Record store.Record
	Error  string
}

// RemoteService makes the calls.
type RemoteService struct {
	file *store.File
}

// Do makes one call.
func (s RemoteService) Do(c RemoteCall, a *RemoteAnswer) error {
	var err error
	switch ctx := context.Background(); c.Verb {
	case "Acquire":
		a.Record, err = s.file.Acquire(ctx, c.Bid)
	case "Renew":
		a.Record, err = s.file.Renew(ctx, c.Bid)
	case "Settle":
		a.Record, err = s.file.Settle(ctx, c.Bid, c.Outcome)
	case "Release":
		a.Record, err = s.file.Release(ctx, c.Bid)
	case "Takeover":
		a.Record, err = s.file.Takeover(ctx, c.Bid, c.From)
	case "Resolve":
		a.Record, err = s.file.Resolve(ctx, c.Key, c.From, c.Resolution)
	default:
		a.Record, err = s.file.Load(ctx, c.Key)
	}
	if err != nil {
		a.Error = err.Error()
	}
	return nil
}

// remoteFile is a File in another process.
type remoteFile struct {
	store.Store // lists nothing
	client      *rpc.Client
	cmd         *exec.Cmd
}

func startRemote(tb testing.TB, dir string) *remoteFile {
	tb.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestFile_Remote$")
	cmd.Env = append(os.Environ(), remoteDir+"="+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(tb, err)
	out, err := cmd.StdoutPipe()
	require.NoError(tb, err)
	require.NoError(tb, cmd.Start())
	r := &remoteFile{cmd: cmd, client: rpc.NewClient(stdio{out, in})}
	tb.Cleanup(r.kill)
	return r
}

// kill returns when the process is gone.
func (r *remoteFile) kill() {
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
	_ = r.client.Close()
}

func (r *remoteFile) do(ctx context.Context, c RemoteCall) (store.Record, error) {
	if err := ctx.Err(); err != nil {
		return store.Record{}, err
	}
	var a RemoteAnswer
	underway := r.client.Go("File.Do", c, &a, make(chan *rpc.Call, 1))
	select {
	case <-ctx.Done():
		return store.Record{}, ctx.Err()
	case <-underway.Done:
	}
	switch err := underway.Error; {
	case err != nil:
		return store.Record{}, err
	case a.Error == "":
		return a.Record, nil
	}
	for _, verdict := range []error{store.ErrSuperseded, store.ErrConflict, store.ErrMoved, store.ErrGone} {
		if a.Error == verdict.Error() {
			return a.Record, verdict
		}
	}
	return store.Record{}, errors.New(a.Error)
}

func (r *remoteFile) Acquire(ctx context.Context, b store.Bid) (store.Record, error) {
	return r.do(ctx, RemoteCall{Verb: "Acquire", Bid: b})
}

func (r *remoteFile) Renew(ctx context.Context, b store.Bid) (store.Record, error) {
	return r.do(ctx, RemoteCall{Verb: "Renew", Bid: b})
}

func (r *remoteFile) Settle(ctx context.Context, b store.Bid, o store.Outcome) (store.Record, error) {
	return r.do(ctx, RemoteCall{Verb: "Settle", Bid: b, Outcome: o})
}

func (r *remoteFile) Release(ctx context.Context, b store.Bid) (store.Record, error) {
	return r.do(ctx, RemoteCall{Verb: "Release", Bid: b})
}

func (r *remoteFile) Takeover(ctx context.Context, b store.Bid, from store.Record) (store.Record, error) {
	return r.do(ctx, RemoteCall{Verb: "Takeover", Bid: b, From: from})
}

func (r *remoteFile) Resolve(ctx context.Context, key string, from store.Record, res store.Resolution) (store.Record, error) {
	return r.do(ctx, RemoteCall{Verb: "Resolve", Key: key, From: from, Resolution: res})
}

func (r *remoteFile) Load(ctx context.Context, key string) (store.Record, error) {
	return r.do(ctx, RemoteCall{Verb: "Load", Key: key})
}
