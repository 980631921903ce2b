package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
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
// hint that Record.LeaseEnd gives, and a running record does not expire while its
// owner lives. A claim takes a file descriptor.
//
// What is running, in doubt or pending has an empty file near its record, by which
// [File.List] finds it; see [File.Reindex].
//
// A record that is damaged, or was changed by hand, is ErrCorrupt: it has a checksum.
// A call about a file that another user can have written ends in ErrUnsafe, and did
// nothing; calls about other keys go on.
//
// A disk that hangs keeps no caller longer than its context. What it was asked may
// still happen, and until it has, the calls about the keys of the same
// subdirectory, of which there are 256, wait as well.
type File struct {
	dir     *directory
	index   index
	records *records
	claims  *claims
	locks   *locks
	lanes   *lanes
	sweeper *sweeper
	lookers lookers
}

// openSweep bounds the sweep of NewFile.
const openSweep = 100 * time.Millisecond

var (
	_ Store        = (*File)(nil)
	_ Checker      = (*File)(nil)
	_ Kinded       = (*File)(nil)
	_ OwnerWatcher = (*File)(nil)
	_ Notifier     = (*File)(nil)
)

// NewFile opens the store in dir, and creates it if there is none, with what leads
// to it. Any number of handles may be open on it. The caller closes the handle after
// its last claim has ended.
//
// All processes must run as one user, the owner of dir, also where they share a group:
// the files are readable by their owner only. A process of root may work on the store
// of another user; whatever it writes is that user's.
//
// It refuses with ErrInvalid an empty name, the root of all files, what is no
// directory, and a directory that has files of somebody else's and is no store yet.
// It refuses with ErrUnsafe a directory that another user owns, or that others may
// write, and a directory in which that is so of a shard, a lock or one of the first
// records, or in which one of these is something else; the error has the command
// that mends it.
//
// In a container, dir must be on a volume: what is in the container's own layer ends
// with it. A volume of Kubernetes with an fsGroup is its group's to write: name a
// directory below the mount, which NewFile then makes, and set fsGroupChangePolicy to
// OnRootMismatch, so that it stays as it was made. A file system that is not known to be safe gets ErrUnsafe; see
// [FileOptions.AnyFileSystem].
func NewFile(dir string, o FileOptions) (*File, error) {
	d, err := openDirectory(dir, o.AnyFileSystem)
	if err != nil {
		return nil, err
	}
	f := &File{
		dir:     d,
		index:   index{d},
		records: &records{dir: d, index: index{d}, unsure: make(map[string]bool)},
		claims:  &claims{dir: d, held: make(map[string]*os.File)},
		locks:   &locks{dir: d},
	}
	f.lanes = newLanes(f.claims, f.locks)
	f.sweeper = &sweeper{dir: d, records: f.records, claims: f.claims, lanes: f.lanes}
	if err := f.Check(context.Background()); err != nil {
		return nil, err
	}
	f.sweeper.all(openSweep)
	return f, nil
}

// Close gives up the claims of this handle: whichever is still running is from
// now on known to be dead. Every later call gets an error that is
// [fs.ErrClosed]. Close waits for no call that is underway.
func (f *File) Close() error {
	f.claims.end()
	return nil
}

// Acquire implements [Store].
func (f *File) Acquire(ctx context.Context, b Bid) (Record, error) {
	if err := b.Validate(); err != nil {
		return Record{}, err
	}
	r, err := f.update(ctx, b.Key, b.Owner, func(r *Record, now time.Time) (bool, error) {
		dead := false
		if r.State == Running && r.Owner != b.Owner {
			alive, err := f.claims.ownerLives(locate(f.dir.path, b.Key).claim(r.Owner))
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
	if err := b.Validate(); err != nil {
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
	if err := b.Validate(); err != nil {
		return Record{}, err
	}
	if err := o.Validate(); err != nil {
		return Record{}, err
	}
	return f.update(ctx, b.Key, b.Owner, func(r *Record, now time.Time) (bool, error) {
		return r.settle(b, o, now)
	})
}

// Release implements [Store].
func (f *File) Release(ctx context.Context, b Bid) (Record, error) {
	if err := b.Validate(); err != nil {
		return Record{}, err
	}
	return f.update(ctx, b.Key, b.Owner, func(r *Record, now time.Time) (bool, error) {
		return r.release(b, now)
	})
}

// Takeover implements [Store].
func (f *File) Takeover(ctx context.Context, b Bid, from Record) (Record, error) {
	if err := b.Validate(); err != nil {
		return Record{}, err
	}
	return f.update(ctx, b.Key, b.Owner, func(r *Record, now time.Time) (bool, error) {
		return r.takeover(b, from, now)
	})
}

// Resolve implements [Store].
func (f *File) Resolve(ctx context.Context, key string, from Record, res Resolution) (Record, error) {
	if err := res.Validate(); err != nil {
		return Record{}, err
	}
	return f.update(ctx, key, "", func(r *Record, now time.Time) (bool, error) {
		return r.resolve(res, from, now)
	})
}

// Load implements [Store].
func (f *File) Load(ctx context.Context, key string) (Record, error) {
	at := locate(f.dir.path, key)
	r, err := f.load(ctx, at)
	if err == nil && r.State == Absent {
		r.Key = key
	}
	return r, err
}

// Check implements [Checker]: the directory is still the one that was opened,
// and can be written. ErrUnsafe says that it is another one, ErrForgot that
// somebody has removed one of its subdirectories, or files in it, since this
// handle saw them. Such a subdirectory is made anew.
func (f *File) Check(ctx context.Context) error {
	_, err := reading(ctx, f.lanes, 0, func() (none struct{}, err error) { return none, f.locks.look() })
	if err != nil {
		return err
	}
	_, err = f.lanes.locked(ctx, 0, func(*os.File, func() bool) (Record, error) {
		temp := filepath.Join(f.dir.shardDir(0), "check"+tempExt)
		defer os.Remove(temp)
		if err := f.records.writeTemp(temp, []byte("{}\n"), ""); err != nil {
			return Record{}, fmt.Errorf("store: cannot write to the directory: %w", err)
		}
		return Record{}, nil
	})
	if err != nil {
		return err
	}
	return f.locks.forgot()
}

// Kind implements [Kinded].
func (f *File) Kind() string { return "file" }

// SeesDeath implements [OwnerWatcher]: the lock of a claim ends with its process.
func (f *File) SeesDeath() bool { return true }

// Clear forgets everything. It is for tests: effects may then happen again.
func (f *File) Clear(ctx context.Context) error {
	var errs []error
	for n := range shards {
		errs = append(errs, f.sweeper.clear(ctx, n))
	}
	return errors.Join(errs...)
}

// load reads the record at a place. It takes no lock, unless it is to find out
// whether the owner of a record past its expiry lives, or to make a record durable
// before it says what is in it.
func (f *File) load(ctx context.Context, at place) (Record, error) {
	r, err := reading(ctx, f.lanes, at.shard, func() (Record, error) { return f.records.read(at.path) })
	r.Now = clock()
	switch {
	case err != nil || r.State == Absent:
	case r.State == Running && r.expired(r.Now), f.records.isUnsure(at.path):
		return f.update(ctx, r.Key, "", func(*Record, time.Time) (bool, error) { return false, nil })
	case r.expired(r.Now):
		r = Record{Key: r.Key, Now: r.Now}
	}
	return r, err
}

// update runs one transition on the record of key, under the lock of its shard.
func (f *File) update(ctx context.Context, key, nonce string, turn func(*Record, time.Time) (bool, error)) (Record, error) {
	at := locate(f.dir.path, key)
	return f.lanes.locked(ctx, at.shard, func(l *os.File, stays func() bool) (Record, error) {
		now := clock()
		r, err := f.read(at, key, now)
		if err != nil {
			return Record{}, err
		}
		was := r.State
		changed, answer := turn(&r, now)
		if err := ctx.Err(); err != nil {
			return Record{}, err // for whom nothing is begun any more
		}
		claim := at.claim(nonce)
		grasped := false
		if r.Owned(nonce) {
			// Before the record says so: nobody may see a running claim unlocked.
			if grasped, err = f.claims.hold(claim); err != nil {
				return Record{}, err
			}
		}
		if changed || r.State != Absent && f.records.isUnsure(at.path) {
			err = f.write(at, r, l, was)
		}
		// An owner that got no answer does not know that it is one.
		if grasped && (err != nil || !stays()) || !r.Owned(nonce) && err == nil {
			f.claims.drop(claim)
		}
		if err != nil {
			return Record{}, err
		}
		r.Now = now
		return r, answer
	})
}

// read returns the record of key as it is remembered now. The caller has the lock
// of the shard.
func (f *File) read(at place, key string, now time.Time) (Record, error) {
	r, err := f.records.read(at.path)
	if err != nil {
		return Record{}, err
	}
	gone, err := f.claims.forgotten(at, r, now)
	if err != nil {
		return Record{}, err
	}
	if gone {
		r = Record{Key: key}
	}
	r.Now = now
	return r, nil
}

// write replaces a record, which was in another state perhaps, under l, the lock of
// its shard, and sometimes sweeps.
func (f *File) write(at place, r Record, l *os.File, was State) error {
	if err := f.records.replace(at, r); err != nil {
		return err
	}
	// Or else another process may have written at the same time, under a new lock.
	if _, err := stillAt(l, f.dir.lockPath(at.shard)); err != nil {
		return err
	}
	if was != r.State {
		f.index.delist(at.path, was)
	}
	if mayEndAWait(was, r.State) {
		f.lookers.notices.send(at.path)
	}
	f.sweeper.sometimes(at.shard, clock())
	return nil
}

// presumedAlive answers with a lease that b's caller can go by. The one on disk
// is as old as the grant.
func presumedAlive(r Record, b Bid) Record {
	if r.State == Running {
		r.LeaseEnd = r.Now.Add(b.Lease)
	}
	return r
}
