package store

import (
	"context"
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
// The records are in a log: each change of one is a line at the end of the last of
// some files, which grow only. A line is written under the kernel's lock of the store,
// by whoever has just read the log to its end and decided by the protocol what is to be
// written. No answer leaves before a sync of the file has ended that began when every
// line that the answer is about was written, by this process or another one; one sync
// serves all calls that wait for it. So what one process sees of another one, and
// was not durable, is either made durable before anybody hears of it, or lost
// together with everything that was written after it.
//
// A running claim holds a lock of the kernel for as long as its process lives and its
// end is not written: no clock is asked whether an owner lives, and [File.Acquire] marks
// the doubt at once when the owner's process has died. Bid.Lease is only the
// hint that Record.LeaseEnd gives, and a running record does not expire while its
// owner lives. A claim takes a file descriptor.
//
// What is killed while it writes leaves the beginning of a line, which the next process
// that has the lock removes. After a start of the host, what comes after the first gap
// that was not durable does not count. A line whose checksum is wrong otherwise is
// ErrCorrupt for its key; one that hides even its key, and a part that is missing, for every
// key of which nothing later is known. After a sync that failed, nothing of that file is synced again: what
// was not durable is written anew to the next one.
//
// When less than half of the log is remembered, a little of its oldest file is copied
// to its end after each write, and the file removed when nothing in it counts. A handle keeps
// in memory where the last line of each key is, in about 60 bytes.
//
// A call about a file that another user can have written ends in ErrUnsafe, and did
// nothing.
//
// A disk that hangs keeps no caller longer than its context. What it was asked may
// still happen, and until it has, every other call waits as well, except that a sync
// that hangs holds up only what is not durable. So does a process that is stopped while
// it has the lock, for some microseconds of each call.
type File struct {
	dir     *directory
	claims  *claims
	locks   *locks
	log     *log
	queue   *queue
	records *records
	glances glances
}

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
// write, and a directory in which that is so of the lock or the log, or in which one of
// these is something else; the error has the command that mends it. It refuses with
// ErrVersion the store of a program that kept a file for each record.
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
	f := &File{dir: d, claims: &claims{dir: d, held: make(map[claimed]*slot)}, locks: &locks{dir: d}}
	f.log = &log{dir: d, claims: f.claims, index: newIndex(), shore: &shore{dir: d}}
	f.queue = &queue{log: f.log, locks: f.locks, claims: f.claims}
	f.records = &records{queue: f.queue, claims: f.claims}
	err = f.check(context.Background(), func(*log) error {
		f.claims.sweep()
		return nil
	})
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// Close gives up the claims of this handle: whichever is still running is from
// now on known to be dead. Every later call gets an error that is
// [fs.ErrClosed], and so does one that is underway and would be granted a claim. Close waits
// for none.
func (f *File) Close() error {
	f.claims.end()
	f.queue.release()
	return nil
}

// Acquire implements [Store].
func (f *File) Acquire(ctx context.Context, b Bid) (Record, error) {
	if err := b.Validate(); err != nil {
		return Record{}, err
	}
	r, err := f.records.update(ctx, b.Key, b.Owner, func(r *stored, now time.Time) (bool, error) {
		dead := false
		if r.State == Running && r.Owner != b.Owner {
			alive, err := f.records.lives(r.claim)
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
	r, err := f.records.update(ctx, b.Key, b.Owner, func(r *stored, now time.Time) (bool, error) {
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
	return f.records.update(ctx, b.Key, b.Owner, func(r *stored, now time.Time) (bool, error) {
		return r.settle(b, o, now)
	})
}

// Release implements [Store].
func (f *File) Release(ctx context.Context, b Bid) (Record, error) {
	if err := b.Validate(); err != nil {
		return Record{}, err
	}
	return f.records.update(ctx, b.Key, b.Owner, func(r *stored, now time.Time) (bool, error) {
		return r.release(b, now)
	})
}

// Takeover implements [Store].
func (f *File) Takeover(ctx context.Context, b Bid, from Record) (Record, error) {
	if err := b.Validate(); err != nil {
		return Record{}, err
	}
	return f.records.update(ctx, b.Key, b.Owner, func(r *stored, now time.Time) (bool, error) {
		return r.takeover(b, from, now)
	})
}

// Resolve implements [Store].
func (f *File) Resolve(ctx context.Context, key string, from Record, res Resolution) (Record, error) {
	if err := res.Validate(); err != nil {
		return Record{}, err
	}
	r, err := f.records.update(ctx, key, "", func(r *stored, now time.Time) (bool, error) {
		return r.resolve(res, from, now)
	})
	if err == nil && res.Erase {
		err = f.records.erase(ctx, key)
	}
	return r, err
}

// Load implements [Store].
func (f *File) Load(ctx context.Context, key string) (Record, error) {
	return f.records.update(ctx, key, "", func(*stored, time.Time) (bool, error) { return false, nil })
}

// Check implements [Checker]: the directory is still the one that was opened,
// and can be written. ErrUnsafe says that it is another one, ErrForgot that
// somebody has removed files of the store since this handle saw them.
func (f *File) Check(ctx context.Context) error {
	return f.check(ctx, func(*log) error { return f.locks.forgot() })
}

func (f *File) check(ctx context.Context, then func(l *log) error) error {
	return f.queue.ask(&request{ctx: ctx, job: func(l *log) (durable, error) {
		if err := f.dir.isStill(); err != nil {
			return durable{}, err
		}
		if err := f.dir.inspect(); err != nil {
			return durable{}, err
		}
		temp := filepath.Join(f.dir.logDir(), "check"+tempExt)
		defer os.Remove(temp)
		if err := l.writeTemp(temp, []byte("{}\n"), ""); err != nil {
			return durable{}, fmt.Errorf("store: cannot write to the directory: %w", err)
		}
		return durable{segment: l.last().n, size: l.last().size}, then(l)
	}})
}

// Kind implements [Kinded].
func (f *File) Kind() string { return "file" }

// SeesDeath implements [OwnerWatcher]: the lock of a claim ends with its process.
func (f *File) SeesDeath() bool { return true }

// Clear forgets everything. It is for tests: effects may then happen again.
func (f *File) Clear(ctx context.Context) error {
	return f.queue.ask(&request{ctx: ctx, job: func(l *log) (durable, error) {
		oldest := l.oldest
		a := l.last()
		l.oldest = a.n + 1
		err := l.begin(a.n+1, a.size, nil)
		if err == nil {
			err = l.shore.sync(l.last(), l.last().size)
		}
		if err != nil {
			l.oldest = oldest
			return durable{}, err
		}
		l.index = newIndex()
		l.notices.sendAll()
		return durable{}, l.drop()
	}})
}

// presumedAlive answers with a lease that b's caller can go by. The one on disk
// is as old as the grant.
func presumedAlive(r Record, b Bid) Record {
	if r.State == Running {
		r.LeaseEnd = r.Now.Add(b.Lease)
	}
	return r
}
