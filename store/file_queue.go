package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// A disk can hang for minutes, and takes no note of contexts. So what asks the disk runs
// beside its caller, who leaves when its context ends: one goroutine takes the lock of
// the store and does what has come in, another one waits for the disk, once for all that
// was written meanwhile. Both end when there is nothing to do.

// request is what a caller asks for.
type request struct {
	ctx context.Context
	// job runs under the lock, on a log that was just read, and returns up to where
	// the log must be durable before the caller gets its answer.
	job func(l *log) (durable, error)
	// ended, if not nil, is told before the caller is.
	ended   func(r *request, err error)
	decided atomic.Bool // that the caller stays, or that it leaves
	done    chan error
}

// stays asks whether the caller is still there. If it is, it waits from then on.
func (r *request) stays() bool { return r.decided.CompareAndSwap(false, true) }

func (r *request) end(err error) {
	if r.ended != nil {
		r.ended(r, err)
	}
	r.done <- err
}

// queue has the requests of a handle.
type queue struct {
	log    *log
	locks  *locks
	claims *claims

	mu       sync.Mutex
	requests []*request
	working  bool
	unsynced []waiting
	syncing  bool
}

// waiting is a request that is done, and not durable.
type waiting struct {
	request *request
	segment *segment
	to      durable
}

const (
	atOnce     = 128  // requests under one lock
	manyQueued = 1024 // of which some may have no caller any more
)

// ask has a request done, and returns no later than its context ends. What its caller
// asked for may still happen then, but is not begun any more.
func (q *queue) ask(r *request) error {
	if err := q.claims.usable(r.ctx); err != nil {
		return err
	}
	r.done = make(chan error, 1)
	q.mu.Lock()
	if len(q.requests) >= manyQueued {
		q.requests = slices.DeleteFunc(q.requests, func(r *request) bool { return r.ctx.Err() != nil })
	}
	q.requests = append(q.requests, r)
	if !q.working {
		q.working = true
		go q.work()
	}
	q.mu.Unlock()
	select {
	case err := <-r.done:
		return err
	case <-r.ctx.Done():
		if r.stays() {
			return r.ctx.Err()
		}
		return <-r.done
	}
}

// work does what has come in, until there is nothing.
func (q *queue) work() {
	for {
		q.mu.Lock()
		n := min(len(q.requests), atOnce)
		if n == 0 {
			q.working = false
			q.mu.Unlock()
			q.release()
			return
		}
		batch := slices.Clone(q.requests[:n])
		q.requests = slices.Delete(q.requests, 0, n)
		q.mu.Unlock()
		q.batch(batch)
	}
}

// release closes the files of a handle that was closed, if nobody uses them.
func (q *queue) release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.claims.usable(context.Background()) == nil || q.working || q.syncing {
		return
	}
	q.log.close()
	q.log.segments = nil
}

// batch does some requests under one lock, and tidies up after they are answered.
func (q *queue) batch(requests []*request) {
	ends := make([]durable, len(requests))
	errs := make([]error, len(requests))
	err := q.locked(func() error {
		for i, r := range requests {
			switch errs[i] = r.ctx.Err(); {
			case errs[i] != nil:
			case len(q.log.segments) == 0: // somebody else writes
				errs[i] = errRemoved
			default:
				ends[i], errs[i] = r.job(q.log)
			}
		}
		return nil
	})
	wrote := false
	for i, r := range requests {
		wrote = wrote || ends[i] != durable{}
		q.answer(r, ends[i], cmp.Or(err, errs[i]))
	}
	if wrote && err == nil && q.log.writes >= mergeStep/4 {
		_ = q.locked(func() error { return q.log.tidy(clock()) })
	}
}

// locked runs a job under the lock of the store, on what is in the log now.
func (q *queue) locked(job func() error) error {
	l, err := q.locks.take()
	switch {
	case errors.Is(err, ErrUnsafe):
		return err
	case err != nil:
		return fmt.Errorf("store: cannot lock: %w", err)
	}
	defer unlockFile(l)
	if err := q.claims.usable(context.Background()); err != nil { // the wait was too long
		return err
	}
	q.log.still = func() error {
		_, err := stillAt(l, q.locks.path())
		return err
	}
	err = q.log.refresh()
	if q.log.lost {
		q.log.lost = false
		q.locks.lose()
	}
	if err != nil {
		return err
	}
	if fault := q.log.shore.failed(); fault != nil {
		// What was durable before is still answered.
		_ = q.log.restate()
		if len(q.log.segments) == 0 {
			return fault
		}
	}
	if err := job(); err != nil {
		return err
	}
	if len(q.log.segments) == 0 { // nothing that was written is known to be there
		return errRemoved
	}
	// Or else another process may have written at the same time, under a new lock.
	if err := q.log.still(); err != nil {
		q.log.forget()
		return err
	}
	return nil
}

// answer ends a request, or has it wait for the disk.
func (q *queue) answer(r *request, to durable, err error) {
	if err != nil || q.log.shore.has(to) {
		r.end(err)
		return
	}
	s := q.log.segment(to.segment)
	if s == nil { // it was durable when it was dropped
		r.end(nil)
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.unsynced = append(q.unsynced, waiting{r, s, to})
	if !q.syncing {
		q.syncing = true
		go q.sync()
	}
}

// sync makes durable what waits for it, until nothing does.
func (q *queue) sync() {
	for {
		q.mu.Lock()
		all := q.unsynced
		q.unsynced = nil
		if len(all) == 0 {
			q.syncing = false
			q.mu.Unlock()
			q.release()
			return
		}
		q.mu.Unlock()
		last := all[0]
		for _, w := range all {
			if last.to.segment < w.to.segment || last.to.segment == w.to.segment && last.to.size < w.to.size {
				last = w
			}
		}
		err := q.log.shore.sync(last.segment, last.to.size)
		for _, w := range all {
			w.request.end(err)
		}
	}
}
