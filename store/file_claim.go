package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"
)

// claims are the running claims of this handle. Each has a file that it locks from its
// grant to its end: whoever asks if its owner lives asks the kernel for that lock.
type claims struct {
	dir *directory

	mu     sync.Mutex
	closed bool                // with the handle
	held   map[string]*os.File // by path
}

// usable returns an error if the handle is closed, or ctx has ended.
func (c *claims) usable(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return fmt.Errorf("store: %s: %w", c.dir.path, fs.ErrClosed)
	}
	return ctx.Err()
}

// end gives up every claim, and has usable say from now on that the handle is closed.
func (c *claims) end() {
	c.mu.Lock()
	held := c.held
	c.closed, c.held = true, nil
	c.mu.Unlock()
	for _, l := range held {
		unlockFile(l)
	}
}

// hold locks the claim at path for as long as this handle keeps it, and reports
// whether that is new. The caller has the lock of the shard, as in all that
// follows.
func (c *claims) hold(path string) (grasped bool, err error) {
	c.mu.Lock()
	old := c.held[path]
	c.mu.Unlock()
	if old != nil {
		if _, err := stillAt(old, path); err == nil {
			return false, nil
		}
	}
	l, err := c.dir.owner.lockAt(path, os.O_CREATE, false)
	switch {
	case err != nil:
		return false, fmt.Errorf("store: cannot lock the claim: %w", err)
	case l == nil:
		return false, nil // another handle made this claim, and lives
	}
	if _, err = stillAt(l, path); err == nil {
		err = c.keep(path, l)
	}
	if err != nil {
		unlockFile(l)
		return false, err
	}
	if old != nil {
		unlockFile(old)
	}
	return old == nil, nil
}

// keep has the handle hold the claim at path by l.
func (c *claims) keep(path string, l *os.File) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return fmt.Errorf("store: %s: %w", c.dir.path, fs.ErrClosed)
	}
	c.held[path] = l
	return nil
}

// drop ends the claim at path, if this handle holds it.
func (c *claims) drop(path string) {
	c.mu.Lock()
	l := c.held[path]
	delete(c.held, path)
	c.mu.Unlock()
	if l != nil {
		_ = os.Remove(path)
		unlockFile(l)
	}
}

// ownerLives reports whether somebody holds the claim at path, and removes what
// a dead owner left.
func (c *claims) ownerLives(path string) (bool, error) {
	l, err := c.dir.owner.lockAt(path, 0, false)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("store: cannot tell whether the owner lives: %w", err)
	case l == nil:
		return true, nil
	}
	_ = os.Remove(path)
	unlockFile(l)
	return false, nil
}

// forgotten reports whether the record that is at a place is not remembered now.
// A running one is, for as long as its owner lives: one that was suspended, or
// whose clock was set, could not renew it. The caller has the lock of the shard.
func (c *claims) forgotten(at place, r Record, now time.Time) (bool, error) {
	if r.State != Running || !r.expired(now) {
		return r.State == Absent || r.expired(now), nil
	}
	alive, err := c.ownerLives(at.claim(r.Owner))
	return !alive, err
}
