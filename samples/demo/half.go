package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/atmostonce/atmostonce/samples/internal/child"
	"github.com/atmostonce/atmostonce/samples/internal/order"
	"github.com/atmostonce/atmostonce/samples/internal/provider"
)

const (
	orders  = 20
	workers = 3
)

// half is one run of all orders, with its own bank, ledger and workers.
type half struct {
	*demo
	name     string
	storeURL string // empty: unguarded
	bank     bank
	killed   chan string // orders whose worker was killed
	failed   chan error  // what went wrong outside of an order's own goroutine

	mu       sync.Mutex
	stopping bool
	workers  map[int]*child.Process // by PID
	seen     map[string]sighting    // by order
}

// sighting is what was seen of one order.
type sighting struct {
	charges                      int
	spoilt                       provider.Kind // the fault that the bank reports
	killed                       bool
	replayed, waited, reconciled bool
	decided, overruled           bool // by the ledger in the database
	result                       order.Confirmation
}

func orderID(n int) string { return fmt.Sprintf("order-%02d", n) }

func (h *half) workflowID(id string) string { return id + "." + h.name + "." + h.run }

func (h *half) start(ctx context.Context) error {
	h.killed, h.failed = make(chan string, orders), make(chan error, orders)
	var err error
	if h.postgres != nil {
		h.bank, err = h.openBooks(ctx)
	} else {
		h.bank, err = h.startTeller(ctx)
	}
	if err != nil {
		h.bank = nil // not a nil of one of the types
		return err
	}
	up := make(chan int, workers)
	for range workers {
		if err := h.startWorker(ctx, up); err != nil {
			return err
		}
	}
	for range workers {
		select {
		case <-up:
		case err := <-h.failed:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	h.console.line("", "%d workers and %v are up", workers, h.bank)
	return nil
}

// startWorker starts a worker process, and says on up when it polls.
func (h *half) startWorker(ctx context.Context, up chan<- int) error {
	log := filepath.Join(h.dir, h.name+"-workers.log")
	args := []string{"worker", "-temporal", h.address, "-namespace", h.namespace, "-queue", "orders." + h.name + "." + h.run,
		"-store", h.storeURL}
	args = append(args, h.bank.flags()...)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopping {
		return nil
	}
	p, err := child.Self(log, func(pid int, r report) {
		switch r.Kind {
		case ready:
			up <- pid
		case committed:
			h.booked(ctx, *r.Charge)
		default:
			h.guarded(r)
		}
	}, args...)
	if err != nil {
		return err
	}
	h.workers[p.PID()] = p
	go func() {
		<-p.Done()
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.workers[p.PID()] == p {
			h.failed <- fmt.Errorf("worker %d ended by itself (its log: %s): %w", p.PID(), log, p.Err())
		}
	}()
	return nil
}

// stop ends every process of this half.
func (h *half) stop() {
	h.mu.Lock()
	h.stopping = true
	var all []*child.Process
	for pid, p := range h.workers {
		all = append(all, p)
		delete(h.workers, pid)
	}
	h.mu.Unlock()
	var ended sync.WaitGroup
	for _, p := range all {
		ended.Go(func() { p.Stop(3 * time.Second) })
	}
	ended.Wait()
	if h.bank != nil {
		h.bank.stop()
	}
}

// fulfil runs all orders. Those whose worker is to be killed go first, one by one, so
// that no other order is on a worker that dies.
func (h *half) fulfil(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var first, rest []int
	for n := 1; n <= orders; n++ {
		if err := h.arm(ctx, n); err != nil {
			return err
		}
		if faultOf(n) == kill {
			first = append(first, n)
		} else {
			rest = append(rest, n)
		}
	}
	go func() {
		select {
		case err := <-h.failed:
			cancel(err)
		case <-ctx.Done():
		}
	}()

	var group sync.WaitGroup
	unfinished := make([]string, orders)
	start := func(n int) {
		group.Go(func() {
			if err := h.fulfilOne(ctx, n); err != nil {
				unfinished[n-1] = orderID(n)
				cancel(fmt.Errorf("%s: %w", orderID(n), err))
			}
		})
	}
	for _, n := range first {
		start(n)
		select {
		case <-h.killed:
		case <-ctx.Done():
		}
	}
	for _, n := range rest {
		start(n)
	}
	group.Wait()
	if ctx.Err() != nil {
		unfinished = slices.DeleteFunc(unfinished, func(id string) bool { return id == "" })
		return fmt.Errorf("%w; not done: %s", context.Cause(ctx), strings.Join(unfinished, ", "))
	}
	h.console.line("", "%d orders done", orders)
	return nil
}

// fulfilOne runs an order's workflow to its end, and confirms its fault.
func (h *half) fulfilOne(ctx context.Context, n int) error {
	id := orderID(n)
	run, err := h.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: h.workflowID(id), TaskQueue: "orders." + h.name + "." + h.run, WorkflowTaskTimeout: 5 * time.Second,
	}, order.Workflow, order.Order{ID: id, Item: "book", Cents: int64(1000 + n)})
	if err != nil {
		return err
	}
	var result order.Confirmation
	if err := run.Get(ctx, &result); err != nil {
		return err
	}
	if faultOf(n) == reset {
		h.console.line(id, "charged and shipped; workflow reset to before the charge")
		if run, err = order.Reset(ctx, h.client, h.namespace, run); err != nil {
			return err
		}
		if err := run.Get(ctx, &result); err != nil {
			return err
		}
	}
	h.note(id, func(s *sighting) { s.result = result })
	return h.confirm(ctx, n, run)
}

func (h *half) note(id string, change func(*sighting)) sighting {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.seen[id]
	change(&s)
	h.seen[id] = s
	return s
}
