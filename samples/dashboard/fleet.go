package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/atmostonce/atmostonce/samples/internal/child"
)

const workers = 3

// fleet is the worker processes.
type fleet struct {
	stack *stack
	args  []string

	mu       sync.Mutex
	stopping bool
	running  map[int]*child.Process // by process ID
	address  map[int]string         // of its metrics
}

func newFleet(s *stack, args ...string) *fleet {
	return &fleet{stack: s, args: args, running: map[int]*child.Process{}, address: map[int]string{}}
}

// start starts all workers, and returns when they poll.
func (f *fleet) start(ctx context.Context) error {
	up := make(chan struct{}, workers)
	for range workers {
		if err := f.add(func() { up <- struct{}{} }); err != nil {
			return err
		}
	}
	for range workers {
		select {
		case <-up:
		case err := <-f.stack.failed:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// add starts a worker. up is called when it polls.
func (f *fleet) add(up func()) error {
	log := filepath.Join(f.stack.Dir, "workers.log")
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopping {
		return nil
	}
	p, err := child.Self(log, func(pid int, r ready) {
		f.mu.Lock()
		_, alive := f.running[pid]
		f.address[pid] = r.Metrics
		f.mu.Unlock()
		if !alive {
			return // it was killed before it was ready
		}
		if err := f.stack.scrape(r.Metrics); err != nil {
			f.stack.failed <- err
		}
		up()
	}, append([]string{"worker"}, f.args...)...)
	if err != nil {
		return err
	}
	f.running[p.PID()] = p
	go func() {
		<-p.Done()
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.running[p.PID()] == p {
			f.stack.failed <- fmt.Errorf("worker %d ended by itself (its log: %s): %w", p.PID(), log, p.Err())
		}
	}()
	return nil
}

// kill kills a worker by SIGKILL, and starts another in its place.
func (f *fleet) kill(pid int) error {
	f.mu.Lock()
	p, ok := f.running[pid]
	delete(f.running, pid)
	address := f.address[pid]
	f.mu.Unlock()
	if !ok {
		return nil // it is dead already
	}
	if !p.Kill() {
		return fmt.Errorf("worker %d ended before it could be killed: %w", pid, p.Err())
	}
	return errors.Join(f.stack.forget(address), f.add(func() {}))
}

func (f *fleet) stop() {
	f.mu.Lock()
	f.stopping = true
	var all []*child.Process
	for pid, p := range f.running {
		all = append(all, p)
		delete(f.running, pid)
	}
	f.mu.Unlock()
	var ended sync.WaitGroup
	for _, p := range all {
		ended.Go(func() { p.Stop(5 * time.Second) })
	}
	ended.Wait()
}
