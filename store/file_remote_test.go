//go:build linux || darwin

package store_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"net/rpc"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/storetest"
)

// Every handle but the first is in a process of its own, and dies by SIGKILL.
func TestFile_ConformsAcrossProcesses(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Harness {
		dir, opened := memoryDir(t), 0
		return storetest.Harness{
			Open: func(tb testing.TB) store.Store {
				if opened++; opened > 1 {
					return startRemote(tb, dir)
				}
				return openFile(tb, dir)
			},
			Die:         dieFile,
			LeaseByLock: true,
		}
	})
}

func dieFile(tb testing.TB, s store.Store, _ time.Duration) {
	tb.Helper()
	if r, remote := s.(*remoteFile); remote {
		r.kill()
		return
	}
	require.NoError(tb, s.(*store.File).Close())
}

// remoteDir has a re-executed test binary serve that directory.
const remoteDir = "ATMOSTONCE_TEST_FILE_REMOTE"

// TestFile_Remote is the other process of tests. On its own it
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
	Query      store.Query
	Empty      bool          // the outcome's data is not nil, which gob does not show
	Limit      time.Duration // of the call; 0 if there is none
}

// RemoteAnswer is what a RemoteCall is answered.
type RemoteAnswer struct {
	Record  store.Record
	Records []RemoteAnswer // of List
	Empty   [2]bool        // as in RemoteCall, of the outcome and the kept one
	Count   int            // of Goroutines
	Error   string
}

func (a *RemoteAnswer) put(r store.Record, err error) {
	a.Record = r
	a.Empty = [2]bool{isEmpty(r.Outcome.Data), r.Kept != nil && isEmpty(r.Kept.Data)}
	if err != nil {
		a.Error = err.Error()
	}
}

func (a *RemoteAnswer) get() (store.Record, error) {
	if a.Empty[0] {
		a.Record.Outcome.Data = []byte{}
	}
	if a.Empty[1] {
		a.Record.Kept.Data = []byte{}
	}
	if a.Error == "" {
		return a.Record, nil
	}
	for _, e := range []error{store.ErrSuperseded, store.ErrConflict, store.ErrMoved, store.ErrGone,
		store.ErrInvalid, store.ErrFull, store.ErrCorrupt, store.ErrVersion, store.ErrForgot} {
		if a.Error == e.Error() || strings.HasPrefix(a.Error, e.Error()+":") {
			return a.Record, e
		}
	}
	return a.Record, errors.New(a.Error)
}

func isEmpty(data []byte) bool { return data != nil && len(data) == 0 }

// RemoteService makes the calls.
type RemoteService struct {
	file *store.File
}

// Do makes one call.
func (s RemoteService) Do(c RemoteCall, a *RemoteAnswer) error {
	if c.Empty {
		c.Outcome.Data, c.Resolution.Outcome.Data = []byte{}, []byte{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	if c.Limit > 0 {
		ctx, cancel = context.WithTimeout(ctx, c.Limit)
	}
	defer cancel()
	switch c.Verb {
	case "List":
		for r, err := range s.file.List(ctx, c.Query) {
			var one RemoteAnswer
			one.put(r, err)
			a.Records = append(a.Records, one)
		}
	case "Acquire":
		a.put(s.file.Acquire(ctx, c.Bid))
	case "Renew":
		a.put(s.file.Renew(ctx, c.Bid))
	case "Settle":
		a.put(s.file.Settle(ctx, c.Bid, c.Outcome))
	case "Release":
		a.put(s.file.Release(ctx, c.Bid))
	case "Takeover":
		a.put(s.file.Takeover(ctx, c.Bid, c.From))
	case "Resolve":
		a.put(s.file.Resolve(ctx, c.Key, c.From, c.Resolution))
	case "Check":
		a.put(store.Record{}, s.file.Check(ctx))
	case "Close":
		a.put(store.Record{}, s.file.Close())
	case "Goroutines":
		a.Count = runtime.NumGoroutine()
	default:
		a.put(s.file.Load(ctx, c.Key))
	}
	return nil
}

// remoteFile is a File in another process.
type remoteFile struct {
	client *rpc.Client
	cmd    *exec.Cmd
	in     io.Closer
	dir    string
}

// startRemote starts a process with a handle on dir, by another program if one is
// given.
func startRemote(tb testing.TB, dir string, by ...string) *remoteFile {
	tb.Helper()
	if len(by) > 0 && by[0] == "strace" && testing.Short() {
		tb.Skip("needs strace")
	}
	line := slices.Concat(by, []string{os.Args[0], "-test.run=^TestFile_Remote$"})
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Env = append(os.Environ(), remoteDir+"="+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(tb, err)
	out, err := cmd.StdoutPipe()
	require.NoError(tb, err)
	require.NoError(tb, cmd.Start())
	r := &remoteFile{cmd: cmd, client: rpc.NewClient(stdio{out, in}), in: in, dir: dir}
	tb.Cleanup(r.kill)
	return r
}

// kill returns when the process is gone.
func (r *remoteFile) kill() {
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
	_ = r.client.Close()
}

// end has the process come to its end by itself.
func (r *remoteFile) end() error {
	_ = r.in.Close()
	return r.cmd.Wait()
}

func (r *remoteFile) do(ctx context.Context, c RemoteCall) (store.Record, error) {
	a, err := r.ask(ctx, c)
	if err != nil {
		return store.Record{}, err
	}
	return a.get()
}

func (r *remoteFile) ask(ctx context.Context, c RemoteCall) (RemoteAnswer, error) {
	if err := ctx.Err(); err != nil {
		return RemoteAnswer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute) // the other process hangs
	defer cancel()
	c.Empty = isEmpty(c.Outcome.Data) || isEmpty(c.Resolution.Outcome.Data)
	var a RemoteAnswer // written to until the call is done
	underway := r.client.Go("File.Do", c, &a, make(chan *rpc.Call, 1))
	select {
	case <-ctx.Done():
		return RemoteAnswer{}, ctx.Err()
	case <-underway.Done:
		return a, underway.Error
	}
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

func (r *remoteFile) List(ctx context.Context, q store.Query) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		a, err := r.ask(ctx, RemoteCall{Verb: "List", Query: q})
		if err != nil {
			yield(store.Record{}, err)
			return
		}
		for i := range a.Records {
			if !yield(a.Records[i].get()) {
				return
			}
		}
	}
}
