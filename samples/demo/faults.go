package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/samples/internal/order"
	"github.com/atmostonce/atmostonce/samples/internal/provider"
)

// fault is what happens to an order, once its charge is committed.
type fault string

const (
	none   fault = ""
	kill   fault = "kill -9"     // of the worker, before it can report
	zombie fault = "zombie"      // the attempt times out and goes on
	drop   fault = "lost answer" // the connection breaks
	reset  fault = "reset"       // of the workflow, to before the charge
)

var faults = []fault{kill, zombie, drop, reset}

// each fault befalls three orders, the first ones; the others have none.
const each = 3

// The provider's answer to a zombie comes when its successor is running, and
// has more than half of its own time left.
const zombieDelay = order.AttemptTimeout + 2*time.Second

func faultOf(n int) fault {
	if i := (n - 1) / each; i < len(faults) {
		return faults[i]
	}
	return none
}

// arm has the bank spoil its first answer about an order.
func (h *half) arm(ctx context.Context, n int) error {
	f := provider.Fault{Order: orderID(n), Times: 1}
	switch faultOf(n) {
	case kill:
		f.Kind = provider.Hold
	case zombie:
		f.Kind, f.Delay = provider.Slow, zombieDelay
	case drop:
		f.Kind = provider.Drop
	default:
		return nil
	}
	return h.bank.Arm(ctx, f)
}

// booked gets each charge that is committed and not yet answered.
func (h *half) booked(ctx context.Context, c provider.Charge) {
	s := h.note(c.Order, func(s *sighting) {
		s.charges++
		if c.Fault != "" {
			s.spoilt = c.Fault
		}
	})
	switch {
	case s.charges > 1:
		h.console.bad(c.Order, "CHARGED AGAIN (%s)", c.ID)
	case c.Fault == provider.Slow:
		h.console.line(c.Order, "charged (%s); the answer comes %v late: the attempt times out", c.ID, zombieDelay-order.AttemptTimeout)
	case c.Fault == provider.Drop:
		h.console.line(c.Order, "charged (%s); the connection broke before the answer", c.ID)
	}
	if c.Fault != provider.Hold {
		return
	}
	if err := h.kill(ctx, c); err != nil {
		h.failed <- err
	}
}

// kill kills the worker that waits for the answer to c, and replaces it.
func (h *half) kill(ctx context.Context, c provider.Charge) error {
	h.mu.Lock()
	p, ok := h.workers[c.Caller]
	delete(h.workers, c.Caller)
	h.mu.Unlock()
	if ok {
		if !p.Kill() {
			return fmt.Errorf("worker %d ended before it could be killed: %w", c.Caller, p.Err())
		}
		if err := h.startWorker(ctx, make(chan int, 1)); err != nil {
			return err
		}
	}
	h.console.line(c.Order, "charged (%s); kill -9 of worker %d before the answer", c.ID, c.Caller)
	h.note(c.Order, func(s *sighting) { s.killed = true })
	h.killed <- c.Order
	return h.bank.LetGo(ctx, c.Order)
}

// guarded gets what the guard did in a worker.
func (h *half) guarded(r report) {
	id, _, _ := strings.Cut(r.Workflow, ".")
	switch r.Kind {
	case observe.KindWait.String():
		h.note(id, func(s *sighting) { s.waited = true })
	case string(observe.Reconciled):
		if h.postgres != nil {
			h.note(id, func(s *sighting) { s.decided = true })
			return
		}
		switch {
		case r.NotDone:
			h.console.line(id, "in doubt; the provider was asked, it has no charge (attempt %d)", r.Attempt)
		case r.Err != "":
			h.console.line(id, "in doubt, and the provider cannot tell: %s", r.Err)
			return
		}
		h.note(id, func(s *sighting) { s.reconciled = true })
	case string(observe.Overruled):
		h.note(id, func(s *sighting) { s.overruled = true })
		h.console.good(id, "the charge is committed, which is what counts: no retry (attempt %d)", r.Attempt)
	case observe.KindDuplicate.String():
		s := h.note(id, func(s *sighting) { s.replayed = true })
		switch {
		case s.decided:
			h.console.good(id, "its worker died; the ledger has the charge, which is replayed (attempt %d)", r.Attempt)
		case s.reconciled:
			h.console.good(id, "in doubt; the provider was asked, its charge is replayed (attempt %d)", r.Attempt)
		case s.waited:
			h.console.good(id, "attempt %d waited for the one still running, its charge is replayed", r.Attempt)
		default:
			h.console.good(id, "the charge on record is replayed (attempt %d)", r.Attempt)
		}
	}
}

// confirm reports an error unless an order's fault has fired.
func (h *half) confirm(ctx context.Context, n int, run client.WorkflowRun) error {
	found, err := order.ChargingOf(ctx, h.client, run)
	if err != nil {
		return err
	}
	s := h.note(orderID(n), func(*sighting) {})
	retried := found.Attempt > 1
	fired := true
	switch faultOf(n) {
	case kill:
		fired = s.killed && retried
	case zombie:
		fired = s.spoilt == provider.Slow && retried
	case drop:
		fired = s.spoilt == provider.Drop && (retried || s.overruled)
	}
	if !fired {
		return errors.New("its fault did not fire: " + string(faultOf(n)))
	}
	return nil
}
