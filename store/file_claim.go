package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

const (
	claimExt  = ".claim"
	idleSlots = 64
)

// claims are the running claims of this handle. Each has a slot: a file that the handle
// locks from before the record names it until after the record is durable in another state.
// Whoever asks if an owner lives asks the kernel for that lock. A slot whose claim
// has come to its end that way serves for the next one, so that a claim makes and
// removes no file; one whose claim was given up never does.
type claims struct {
	dir *directory

	mu     sync.Mutex
	closed bool // with the handle
	held   map[claimed]*slot
	idle   []*slot
}

// claimed is a claim.
type claimed struct {
	key   id
	nonce string
}

// slot is a file that is locked.
type slot struct {
	name string
	lock *os.File
	// A claim whose owner has got no answer is given up with the last call that might
	// have answered it.
	known bool
	calls int
}

// usable returns an error if the handle is closed, or ctx has ended.
func (c *claims) usable(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.errClosed()
	}
	return ctx.Err()
}

func (c *claims) errClosed() error {
	return fmt.Errorf("store: %s: %w", c.dir.path, fs.ErrClosed)
}

// end gives up every claim, and has usable say from now on that the handle is closed.
func (c *claims) end() {
	c.mu.Lock()
	held, idle := c.held, c.idle
	c.closed, c.held, c.idle = true, nil, nil
	c.mu.Unlock()
	for _, s := range held {
		unlockFile(s.lock)
	}
	for _, s := range idle {
		c.discard(s)
	}
}

func (c *claims) path(name string) string {
	return filepath.Join(c.dir.claimsDir(), name+claimExt)
}

// hold sees to it that a claim of this handle is locked, and returns the name of its
// slot. named is the slot that the record names; if another handle holds that, the claim
// is that handle's, and not kept here. The caller has the lock of the store, and calls
// heard when a claim that was kept is answered.
func (c *claims) hold(k claimed, named string) (name string, kept bool, err error) {
	c.mu.Lock()
	s := c.held[k]
	c.mu.Unlock()
	if s != nil && s.name == named {
		if _, err := stillAt(s.lock, c.path(s.name)); err == nil {
			err = c.keep(k, s)
			return named, err == nil, err
		}
	}
	if s == nil && named != "" {
		if alive, err := c.ownerLives(named); alive || err != nil {
			return named, false, err
		}
	}
	fresh, err := c.take()
	if err != nil {
		return "", false, fmt.Errorf("store: cannot lock the claim: %w", err)
	}
	if s != nil {
		fresh.known, fresh.calls = s.known, s.calls
	}
	if err := c.keep(k, fresh); err != nil {
		c.discard(fresh)
		return "", false, err
	}
	if s != nil {
		c.discard(s)
	}
	return fresh.name, true, nil
}

// take returns a slot that is locked and that no record names.
func (c *claims) take() (*slot, error) {
	for {
		c.mu.Lock()
		var s *slot
		if n := len(c.idle); n > 0 {
			s, c.idle = c.idle[n-1], c.idle[:n-1]
		}
		c.mu.Unlock()
		if s == nil {
			break
		}
		if _, err := stillAt(s.lock, c.path(s.name)); err == nil {
			return &slot{name: s.name, lock: s.lock}, nil
		}
		unlockFile(s.lock)
	}
	for range 10 {
		var nonce [16]byte
		_, _ = rand.Read(nonce[:]) // never fails
		name := hex.EncodeToString(nonce[:])
		lock, err := c.dir.owner.lockAt(c.path(name), os.O_CREATE, false)
		if errors.Is(err, fs.ErrNotExist) {
			if _, err = c.dir.owner.makeDirAt(c.dir.claimsDir()); err == nil {
				continue
			}
		}
		if err != nil {
			return nil, err
		}
		if lock == nil {
			continue
		}
		if _, err := stillAt(lock, c.path(name)); err == nil {
			return &slot{name: name, lock: lock}, nil
		}
		unlockFile(lock) // it was taken for a dead owner's
	}
	return nil, errRemoved
}

// keep has the handle hold a claim by a slot.
func (c *claims) keep(k claimed, s *slot) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.errClosed()
	}
	s.calls++
	c.held[k] = s
	return nil
}

// heard says that a call that held the claim has ended, and whether its caller knows
// now that it has it.
func (c *claims) heard(k claimed, owned bool) {
	c.mu.Lock()
	s := c.held[k]
	if s == nil || s.calls == 0 {
		c.mu.Unlock()
		return
	}
	s.calls--
	s.known = s.known || owned
	lost := s.calls == 0 && !s.known
	if lost {
		delete(c.held, k)
	}
	c.mu.Unlock()
	if lost {
		c.discard(s)
	}
}

// over ends a claim of which the record says durably that it runs no more, if this
// handle holds it.
func (c *claims) over(k claimed) {
	c.mu.Lock()
	s := c.held[k]
	delete(c.held, k)
	if s != nil && len(c.idle) < idleSlots {
		c.idle = append(c.idle, s)
		s = nil
	}
	c.mu.Unlock()
	if s != nil {
		c.discard(s)
	}
}

// discard unlocks a slot for good.
func (c *claims) discard(s *slot) {
	_ = os.Remove(c.path(s.name))
	unlockFile(s.lock)
}

// ownerLives reports whether somebody holds the slot of that name, and removes what
// a dead owner left.
func (c *claims) ownerLives(name string) (bool, error) {
	l, err := c.dir.owner.lockAt(c.path(name), 0, false)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("store: cannot tell whether the owner lives: %w", err)
	case l == nil:
		return true, nil
	}
	_ = os.Remove(c.path(name))
	unlockFile(l)
	return false, nil
}

// sweep removes the slots of the dead.
func (c *claims) sweep() {
	names, _ := c.dir.owner.namesAt(c.dir.claimsDir())
	for _, name := range names {
		if name, isClaim := strings.CutSuffix(name, claimExt); isClaim {
			_, _ = c.ownerLives(name)
		}
	}
}

func isClaimName(name string) bool {
	return len(name) == 32 && strings.Trim(name, "0123456789abcdef") == ""
}
