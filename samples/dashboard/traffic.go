package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/atmostonce/atmostonce/samples/internal/order"
	"github.com/atmostonce/atmostonce/samples/internal/provider"
)

// traffic is what goes on: orders, receipts, and what befalls them.
type traffic struct {
	*stack
	bank   provider.Client
	ledger string
	outbox *outbox
	fleet  *fleet

	operatorAfter time.Duration // how long a receipt is in doubt before somebody looks
	mailDelay     time.Duration // of slow receipts; longer than an attempt may take

	mu     sync.Mutex
	rounds int
	tolds  map[story]int
	orders map[string]bool // charged once each; false: declined
	lost   map[string]bool // receipts whose worker is to be killed
	slow   map[string]bool // receipts that the mail server is slow to confirm
}

// story is one way for an order to go.
type story string

const (
	plain    story = "without fault"
	killed   story = "kill -9"          // of the worker that waits for the provider's answer
	zombie   story = "zombie"           // the attempt times out and goes on
	dropped  story = "lost answer"      // the connection breaks
	reset    story = "reset"            // of the workflow, to before the charge
	again    story = "ordered again"    // another workflow charges for the same order
	together story = "ordered at once"  // by several workflows
	declined story = "declined"         // by the provider
	mailed   story = "receipt"          // an e-mail, without fault
	mailLost story = "receipt in doubt" // kill -9 of the worker that sends it
	mailSlow story = "slow receipt"     // the attempt times out, and goes on
	outage   story = "store outage"     // the store does not answer for a while
)

// onceARound happen in each round, all but the outage at the same time.
var onceARound = []story{killed, mailLost, plain, plain, plain, zombie, dropped, reset, again, again, together, declined, mailed, mailed, mailSlow}

func newTraffic(ctx context.Context, s *stack) (*traffic, error) {
	t := &traffic{stack: s, ledger: filepath.Join(s.Dir, "ledger.jsonl"), operatorAfter: 10 * time.Second, mailDelay: 6 * time.Second,
		tolds: map[story]int{}, orders: map[string]bool{}, lost: map[string]bool{}, slow: map[string]bool{}}
	bank, err := provider.Open(t.ledger, func(c provider.Charge) { t.charged(ctx, c) })
	if err != nil {
		return nil, err
	}
	s.onClose(func() { _ = bank.Close() })
	t.outbox = &outbox{told: t.sent, sent: map[string]int{}}
	bankAddress, stopBank, err := listen(ctx, bank)
	if err != nil {
		return nil, err
	}
	s.onClose(stopBank)
	mailAddress, stopMail, err := listen(ctx, t.outbox)
	if err != nil {
		return nil, err
	}
	s.onClose(stopMail)
	t.bank.URL = "http://" + bankAddress
	t.fleet = newFleet(s, "-temporal", s.Temporal.Address, "-otlp", s.otlp, "-redis", s.redisAddr,
		"-provider", t.bank.URL, "-outbox", "http://"+mailAddress)
	s.onClose(t.fleet.stop)
	return t, t.fleet.start(ctx)
}

// charged gets each charge before it is answered.
func (t *traffic) charged(ctx context.Context, c provider.Charge) {
	if c.Fault != provider.Hold {
		return
	}
	if err := errors.Join(t.fleet.kill(c.Caller), t.bank.LetGo(ctx, c.Order)); err != nil {
		t.failed <- err
	}
}

// sent gets each e-mail before it is answered.
func (t *traffic) sent(m message) {
	t.mu.Lock()
	lost, slow := t.lost[m.Order], t.slow[m.Order]
	delete(t.lost, m.Order)
	t.mu.Unlock()
	if slow {
		<-time.After(t.mailDelay)
	}
	if !lost {
		return
	}
	if err := t.fleet.kill(m.Caller); err != nil {
		t.failed <- err
	}
}

// round plays all stories once, and returns when they have ended.
func (t *traffic) round(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("a round takes longer than two minutes"))
	defer cancel()
	t.mu.Lock()
	t.rounds++
	round := t.rounds
	t.mu.Unlock()
	errs := make(chan error, len(onceARound)+1)
	for n, s := range onceARound {
		go func() { errs <- t.tell(ctx, s, fmt.Sprintf("order-%d-%02d", round, n)) }()
	}
	operator, ended := context.WithCancel(ctx)
	defer ended()
	go func() {
		if err := t.operate(operator); err != nil && operator.Err() == nil {
			t.failed <- err
		}
	}()
	for range onceARound {
		select {
		case err := <-errs:
			if err != nil {
				return err
			}
		case err := <-t.failed:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	ended()
	return t.tell(ctx, outage, fmt.Sprintf("order-%d-outage", round))
}

func (t *traffic) tell(ctx context.Context, s story, id string) error {
	err := map[story]func(context.Context, string) error{
		plain: t.order, killed: t.spoil(provider.Fault{Kind: provider.Hold}), dropped: t.spoil(provider.Fault{Kind: provider.Drop}),
		zombie: t.spoil(provider.Fault{Kind: provider.Slow, Delay: order.AttemptTimeout + 2*time.Second}), declined: t.decline,
		reset: t.reset, again: t.again, together: t.together, mailed: t.receipt, mailLost: t.spoilReceipt(t.lost), mailSlow: t.spoilReceipt(t.slow), outage: t.outage,
	}[s](ctx, id)
	if err != nil {
		return fmt.Errorf("%s, %s: %w", id, s, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tolds[s]++
	return nil
}

// start starts the workflow of an order; several of them can be for one order.
func (t *traffic) start(ctx context.Context, id, workflow string) (client.WorkflowRun, error) {
	t.mu.Lock()
	if _, known := t.orders[id]; !known {
		t.orders[id] = true
	}
	t.mu.Unlock()
	return t.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: workflow, TaskQueue: queue, WorkflowTaskTimeout: 5 * time.Second},
		order.Workflow, order.Order{ID: id, Item: "book", Cents: 1200})
}

func (t *traffic) order(ctx context.Context, id string) error {
	run, err := t.start(ctx, id, id)
	if err != nil {
		return err
	}
	return run.Get(ctx, nil)
}

// spoil makes an order whose first answer from the provider is spoilt.
func (t *traffic) spoil(f provider.Fault) func(context.Context, string) error {
	return func(ctx context.Context, id string) error {
		f.Order, f.Times = id, max(f.Times, 1)
		return errors.Join(t.bank.Arm(ctx, f), t.order(ctx, id))
	}
}

func (t *traffic) decline(ctx context.Context, id string) error {
	t.mu.Lock()
	t.orders[id] = false
	t.mu.Unlock()
	// Each time: the worker that gets the first answer may be killed.
	err := t.spoil(provider.Fault{Kind: provider.Decline, Times: 100})(ctx, id)
	if app := (*temporal.ApplicationError)(nil); errors.As(err, &app) && app.Type() == "Declined" {
		return nil
	}
	return errors.Join(errors.New("it was not declined"), err)
}

func (t *traffic) reset(ctx context.Context, id string) error {
	run, err := t.start(ctx, id, id)
	if err != nil {
		return err
	}
	if err := run.Get(ctx, nil); err != nil {
		return err
	}
	if run, err = order.Reset(ctx, t.client, client.DefaultNamespace, run); err != nil {
		return err
	}
	return run.Get(ctx, nil)
}

func (t *traffic) again(ctx context.Context, id string) error {
	if err := t.order(ctx, id); err != nil {
		return err
	}
	run, err := t.start(ctx, id, id+secondTime)
	if err != nil {
		return err
	}
	return run.Get(ctx, nil)
}

const secondTime = "-second-time"

// together is three orders, one after another, each made by three workflows at one
// time.
func (t *traffic) together(ctx context.Context, id string) error {
	for n := range 3 {
		id := fmt.Sprintf("%s-%d", id, n)
		if err := t.bank.Arm(ctx, provider.Fault{Order: id, Kind: provider.Slow, Times: 1, Delay: 1500 * time.Millisecond}); err != nil {
			return err
		}
		var runs []client.WorkflowRun
		for _, workflow := range []string{id, id + "-beside", id + "-too"} {
			run, err := t.start(ctx, id, workflow)
			if err != nil {
				return err
			}
			runs = append(runs, run)
		}
		for _, run := range runs {
			if err := run.Get(ctx, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *traffic) receipt(ctx context.Context, id string) error {
	run, err := t.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: "receipt-" + id, TaskQueue: queue}, Receipt, id)
	if err != nil {
		return err
	}
	return run.Get(ctx, nil)
}

// spoilReceipt sends a receipt that suffers what the set stands for.
func (t *traffic) spoilReceipt(set map[string]bool) func(context.Context, string) error {
	return func(ctx context.Context, id string) error {
		t.mu.Lock()
		set[id] = true
		t.mu.Unlock()
		if err := t.receipt(ctx, id); err != nil {
			return err
		}
		if n := t.outbox.count(id); n != 1 {
			return fmt.Errorf("%d e-mails were sent", n)
		}
		return nil
	}
}

// outage stops the store for longer than the guard waits for it.
func (t *traffic) outage(ctx context.Context, id string) error {
	if err := syscall.Kill(t.redis.PID(), syscall.SIGSTOP); err != nil {
		return err
	}
	ended := make(chan error, workers)
	for n := range workers {
		go func() { ended <- t.order(ctx, fmt.Sprintf("%s-%d", id, n)) }()
	}
	select {
	case <-time.After(2500 * time.Millisecond):
	case <-ctx.Done():
	}
	err := syscall.Kill(t.redis.PID(), syscall.SIGCONT)
	for range workers {
		err = errors.Join(err, <-ended)
	}
	return err
}

// sofar says what came of it, as the ledger knows.
func (t *traffic) sofar() (string, error) {
	ledger, err := provider.ReadLedger(t.ledger)
	if err != nil {
		return "", err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	charged, twice, orders := map[string]int{}, []string{}, 0
	for _, c := range ledger {
		if charged[c.Order]++; charged[c.Order] == 2 {
			twice = append(twice, c.Order)
		}
	}
	for _, accepted := range t.orders {
		if accepted {
			orders++
		}
	}
	if len(twice) > 0 || len(charged) != orders {
		return "", fmt.Errorf("%d orders, %d charged; charged twice: %s", orders, len(charged), strings.Join(twice, ", "))
	}
	return fmt.Sprintf("%d orders, %d charges, none twice", orders, len(ledger)), nil
}
