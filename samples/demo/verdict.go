package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/atmostonce/atmostonce/store"
)

// tally is what the ledger says at the end of a half, and what the guard
// reported.
type tally struct {
	name                         string
	charges, duplicates, lost    int
	replayed, waited, reconciled int
	decided, inDoubt             int // by the ledger; at the end
}

func (h *half) count(ctx context.Context) (tally, error) {
	ledger, err := h.bank.charges(ctx)
	if err != nil {
		return tally{}, err
	}
	t := tally{name: h.name, charges: len(ledger)}
	charged := map[string]map[string]bool{} // order, then charge
	for _, c := range ledger {
		if charged[c.Order] == nil {
			charged[c.Order] = map[string]bool{}
		} else {
			t.duplicates++
		}
		charged[c.Order][c.ID] = true
	}
	if t.inDoubt, err = h.countInDoubt(ctx); err != nil {
		return tally{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for n := 1; n <= orders; n++ {
		id := orderID(n)
		s := h.seen[id]
		switch {
		case charged[id] == nil:
			t.lost++
		case !charged[id][s.result.Charge]:
			return t, fmt.Errorf("the workflow of %s was told of charge %q, which the ledger does not know", id, s.result.Charge)
		}
		for _, c := range []struct {
			seen bool
			n    *int
		}{{s.replayed, &t.replayed}, {s.waited, &t.waited}, {s.reconciled, &t.reconciled}, {s.decided || s.overruled, &t.decided}} {
			if c.seen {
				*c.n++
			}
		}
	}
	return t, nil
}

// countInDoubt asks the guard's store.
func (h *half) countInDoubt(ctx context.Context) (n int, err error) {
	if h.storeURL == "" {
		return 0, nil
	}
	s, err := openStore(h.storeURL)
	if err != nil {
		return 0, err
	}
	for _, err := range s.List(ctx, store.Query{State: store.InDoubt}) {
		if err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}

// verdict prints the table and the last line; the ledgers decide.
func (d *demo) verdict(unguarded, guarded tally, took time.Duration) error {
	var fired []string
	for _, f := range faults {
		fired = append(fired, strconv.Itoa(each)+" × "+string(f))
	}
	d.console.printf("\nEvery fault fired, in both halves: %s. It took %v.\n\n", strings.Join(fired, ", "), took.Round(time.Second))
	const row = "%-9s  %6v  %7v  %10v  %4v  %8v  %6v  %10v  %8v  %9v\n"
	d.console.printf(row, "", "orders", "charges", "duplicates", "lost", "replayed", "waited", "reconciled", "in doubt", "by ledger")
	u, g := unguarded, guarded
	byLedger := "-"
	if d.postgres != nil {
		byLedger = strconv.Itoa(g.decided)
	}
	d.console.printf(row, u.name, orders, u.charges, u.duplicates, u.lost, "-", "-", "-", "-", "-")
	d.console.printf(row, g.name, orders, g.charges, g.duplicates, g.lost, g.replayed, g.waited, g.reconciled, g.inDoubt, byLedger)
	d.console.printf("\ndemo: %d orders; unguarded %d charges; guarded %d charges, %d duplicates, %d lost\n",
		orders, u.charges, g.charges, g.duplicates, g.lost)
	if u.charges <= orders || g.charges != orders || g.duplicates != 0 || g.lost != 0 || g.inDoubt != 0 {
		return errVerdict
	}
	return nil
}
