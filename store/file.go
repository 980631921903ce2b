package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"
)

// FileOptions are the options of NewFile. The zero value is usable.
type FileOptions struct {
	// AnyFileSystem admits file systems on which file locks or durable writes
	// are not known to hold: network mounts, FUSE, those in memory. What such a
	// file system loses may then happen again.
	AnyFileSystem bool
}

// File keeps records in a directory that the processes of one host share, also
// from several containers of it. It protects against the end of any of them,
// and of the host.
//
// Each key has a JSON file of its own, written durably. A running claim holds a
// lock of the kernel for as long as its process lives and its end is not
// written: no clock is asked whether an owner lives, and [File.Acquire] marks
// the doubt at once when the owner's process has died. Bid.Lease is only the
// hint that Record.LeaseEnd gives. A claim takes a file descriptor.
//
// What is running, in doubt or pending has an empty file near its record, by which
// [File.List] finds it; see [File.Reindex].
type File struct {
	dir    string
	opened fs.FileInfo
	shards [shards]shard
	step   func(point string) error // tests fail here, or end the process

	mu     sync.Mutex
	closed bool
	claims map[string]*flock.Flock // held by this handle, by path
	unsure map[string]bool         // records whose last write may not be durable, by path
}

// shard is this handle's side of one subdirectory.
type shard struct {
	gate   chan struct{} // held beside the lock, by one goroutine of this handle
	writes int           // since the last sweep
	swept  string        // the last record that a sweep looked at
}

const (
	shards = 256
	// openSweep bounds the sweep of NewFile.
	openSweep = 100 * time.Millisecond
)

var (
	_ Store   = (*File)(nil)
	_ Checker = (*File)(nil)
)

// NewFile opens the store in dir, and creates it if there is none. Any number
// of handles may be open on it. The caller closes the handle after its last
// claim has ended.
//
// All processes must run as one user: the files are readable by their owner
// only. In a container, dir must be on a volume: what is in the container's own
// layer ends with it. A file system that is not known to be safe gets
// ErrUnsafe; see [FileOptions.AnyFileSystem].
func NewFile(dir string, o FileOptions) (*File, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("store: cannot create the directory: %w", err)
	}
	if err := checkFileSystem(dir, o); err != nil {
		return nil, err
	}
	f := &File{
		dir:    dir,
		step:   func(string) error { return nil },
		claims: make(map[string]*flock.Flock),
		unsure: make(map[string]bool),
	}
	if f.opened, err = os.Stat(dir); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	for n := range f.shards {
		f.shards[n].gate = make(chan struct{}, 1)
		if err := os.Mkdir(f.shardDir(n), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("store: cannot write to the directory: %w", err)
		}
	}
	if err := syncDir(dir); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if err := f.Check(context.Background()); err != nil {
		return nil, err
	}
	f.sweepAll(openSweep)
	return f, nil
}

// Close gives up the claims of this handle: whichever is still running is from
// now on known to be dead. Every later call gets an error that is
// [fs.ErrClosed].
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	var errs []error
	for _, claim := range f.claims {
		errs = append(errs, claim.Unlock())
	}
	f.claims = nil
	return errors.Join(errs...)
}

// Check implements [Checker]: the directory is still the one that was opened,
// and can be written. ErrUnsafe says that it is another.
func (f *File) Check(ctx context.Context) error {
	switch now, err := os.Stat(f.dir); {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnsafe, err)
	case !os.SameFile(f.opened, now):
		return fmt.Errorf("%w: %s is no longer the directory that was opened; its records are elsewhere", ErrUnsafe, f.dir)
	}
	unlock, err := f.lock(ctx, 0)
	if err != nil {
		return err
	}
	defer unlock()
	temp := filepath.Join(f.shardDir(0), "check"+tempExt)
	defer os.Remove(temp)
	if err := f.writeTemp(temp, []byte("{}\n")); err != nil {
		return fmt.Errorf("store: cannot write to the directory: %w", err)
	}
	return nil
}

// Acquire implements [Store].
func (f *File) Acquire(ctx context.Context, b Bid) (Record, error) {
	if err := b.validate(); err != nil {
		return Record{}, err
	}
	r, err := f.update(ctx, b.Key, b.Owner, func(r *Record, now time.Time) (bool, error) {
		dead := false
		if r.State == Running && r.Owner != b.Owner {
			alive, err := ownerLives(locate(f.dir, b.Key).claim(r.Owner))
			if err != nil {
				return false, err
			}
			dead = !alive
		}
		return r.acquire(b, now, dead)
	})
	return presumedAlive(r, b), err
}

// Renew implements [Store]. It writes only what must outlast the process: the
// lock says that the owner lives.
func (f *File) Renew(ctx context.Context, b Bid) (Record, error) {
	if err := b.validate(); err != nil {
		return Record{}, err
	}
	r, err := f.update(ctx, b.Key, b.Owner, func(r *Record, now time.Time) (bool, error) {
		if r.State == Running && r.owns(b) {
			return r.touch(now, b.TTL), nil
		}
		return r.renew(b, now)
	})
	return presumedAlive(r, b), err
}

// Settle implements [Store].
func (f *File) Settle(ctx context.Context, b Bid, o Outcome) (Record, error) {
	if err := b.validate(); err != nil {
		return Record{}, err
	}
	if err := o.validate(); err != nil {
		return Record{}, err
	}
	return f.update(ctx, b.Key, b.Owner, func(r *Record, now time.Time) (bool, error) {
		return r.settle(b, o, now)
	})
}

// Release implements [Store].
func (f *File) Release(ctx context.Context, b Bid) (Record, error) {
	if err := b.validate(); err != nil {
		return Record{}, err
	}
	return f.update(ctx, b.Key, b.Owner, func(r *Record, now time.Time) (bool, error) {
		return r.release(b, now)
	})
}

// Takeover implements [Store].
func (f *File) Takeover(ctx context.Context, b Bid, from Record) (Record, error) {
	if err := b.validate(); err != nil {
		return Record{}, err
	}
	return f.update(ctx, b.Key, b.Owner, func(r *Record, now time.Time) (bool, error) {
		return r.takeover(b, from, now)
	})
}

// Resolve implements [Store].
func (f *File) Resolve(ctx context.Context, key string, from Record, res Resolution) (Record, error) {
	if err := res.validate(); err != nil {
		return Record{}, err
	}
	return f.update(ctx, key, "", func(r *Record, now time.Time) (bool, error) {
		return r.resolve(res, from, now)
	})
}

// Load implements [Store].
func (f *File) Load(ctx context.Context, key string) (Record, error) {
	if err := f.usable(ctx); err != nil {
		return Record{}, err
	}
	return f.read(locate(f.dir, key), key, clock())
}

// Clear forgets everything. It is for tests: effects may then happen again.
func (f *File) Clear(ctx context.Context) error {
	for n := range f.shards {
		if err := f.clearShard(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// update runs one transition on the record of key, under the lock of its shard.
func (f *File) update(ctx context.Context, key, nonce string, turn func(*Record, time.Time) (bool, error)) (Record, error) {
	at := locate(f.dir, key)
	unlock, err := f.lock(ctx, at.shard)
	if err != nil {
		return Record{}, err
	}
	defer unlock()
	now := clock()
	r, err := f.read(at, key, now)
	if err != nil {
		return Record{}, err
	}
	was := r.State
	changed, answer := turn(&r, now)
	claim := at.claim(nonce)
	grasped := false
	if r.Owned(nonce) {
		// Before the record says so: nobody may see a running claim unlocked.
		if grasped, err = f.hold(claim); err != nil {
			return Record{}, err
		}
	}
	if changed || r.State != Absent && f.isUnsure(at.path) {
		renamed, err := f.replace(at, r)
		if err != nil {
			if grasped && !renamed {
				f.drop(claim)
			}
			return Record{}, err
		}
		if was != r.State {
			f.delist(at.path, was)
		}
		f.sweepSometimes(at.shard, now)
	}
	if !r.Owned(nonce) {
		f.drop(claim)
	}
	r.Now = now
	return r, answer
}

// presumedAlive answers with a lease that b's caller can go by. The one on disk
// is as old as the grant.
func presumedAlive(r Record, b Bid) Record {
	if r.State == Running {
		r.LeaseEnd = r.Now.Add(b.Lease)
	}
	return r
}

// clock is the host's, as a file keeps it.
func clock() time.Time {
	return time.Now().Round(0).UTC()
}
