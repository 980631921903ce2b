package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/atmostonce/atmostonce/samples/internal/child"
	"github.com/atmostonce/atmostonce/samples/internal/provider"
)

// bank is where a half books its charges: a payment provider, or a table of a
// database.
type bank interface {
	String() string
	// Arm spoils the next answers about f.Order.
	Arm(ctx context.Context, f provider.Fault) error
	// LetGo ends what provider.Hold holds for an order.
	LetGo(ctx context.Context, order string) error
	// charges returns what the ledger says.
	charges(ctx context.Context) ([]provider.Charge, error)
	// flags are those by which a worker finds the bank.
	flags() []string
	stop()
}

// teller is the bank that is a payment provider, in a process of its own.
type teller struct {
	provider.Client
	process *child.Process
	ledger  string
}

// startTeller starts the provider. booked gets each charge that it has committed
// and not yet answered.
func (h *half) startTeller(ctx context.Context) (*teller, error) {
	t := &teller{ledger: filepath.Join(h.dir, h.name+"-ledger.jsonl")}
	url := make(chan string, 1)
	log := filepath.Join(h.dir, h.name+"-provider.log")
	p, err := child.Self(log, func(_ int, b booking) {
		if b.Charge != nil {
			h.booked(ctx, *b.Charge)
			return
		}
		url <- b.URL
	}, "provider", "-ledger", t.ledger)
	if err != nil {
		return nil, err
	}
	t.process = p
	select {
	case t.URL = <-url:
		return t, nil
	case <-p.Done():
		return nil, fmt.Errorf("the provider ended (its log: %s): %w", log, p.Err())
	case <-ctx.Done():
		t.stop()
		return nil, errors.Join(context.Cause(ctx), p.Err())
	}
}

func (t *teller) String() string { return "the payment provider" }

func (t *teller) charges(context.Context) ([]provider.Charge, error) {
	return provider.ReadLedger(t.ledger)
}

func (t *teller) flags() []string { return []string{"-provider", t.URL} }

func (t *teller) stop() { t.process.Stop(3 * time.Second) }
