package provider

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"
)

// Charge is money taken from a card. It is also what the ledger keeps, one JSON
// object a line.
type Charge struct {
	ID     string    `json:"id"`
	Order  string    `json:"order"`
	Cents  int64     `json:"cents"`
	Caller int       `json:"caller"` // process that asked
	At     time.Time `json:"at"`
	Fault  Kind      `json:"fault,omitempty"` // how the answer was spoilt

	Refunds string `json:"refunds,omitempty"` // the charge that this one pays back; Cents is negative then
}

// ledger is an append-only file. What its methods have committed survives a
// crash of the machine.
type ledger struct {
	mu      sync.Mutex
	file    *os.File
	charges []Charge
}

func openLedger(path string) (*ledger, error) {
	charges, err := ReadLedger(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &ledger{file: f, charges: charges}, nil
}

// add commits a charge.
func (l *ledger) add(c Charge) (Charge, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.commit(c)
}

// refund commits a refund for every charge of the order that is not paid back yet.
func (l *ledger) refund(order string, caller int) ([]Charge, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	back := map[string]bool{}
	for _, c := range l.charges {
		back[c.Refunds] = true
	}
	refunds := []Charge{}
	for _, c := range l.charges {
		if c.Order != order || c.Refunds != "" || back[c.ID] {
			continue
		}
		r, err := l.commit(Charge{Order: order, Cents: -c.Cents, Caller: caller, Refunds: c.ID})
		if err != nil {
			return refunds, err
		}
		refunds = append(refunds, r)
	}
	return refunds, nil
}

func (l *ledger) commit(c Charge) (Charge, error) {
	c.ID = fmt.Sprintf("ch_%d", len(l.charges)+1)
	c.At = time.Now()
	line, err := json.Marshal(c)
	if err != nil {
		return Charge{}, err
	}
	if _, err := l.file.Write(append(line, '\n')); err != nil {
		return Charge{}, err
	}
	if err := l.file.Sync(); err != nil {
		return Charge{}, err
	}
	l.charges = append(l.charges, c)
	return c, nil
}

func (l *ledger) of(order string) []Charge {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := []Charge{}
	for _, c := range l.charges {
		if order == "" || c.Order == order {
			found = append(found, c)
		}
	}
	return found
}

// ReadLedger returns what the ledger at path says, refunds included.
func ReadLedger(path string) ([]Charge, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var charges []Charge
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		var c Charge
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", path, len(charges)+1, err)
		}
		charges = append(charges, c)
	}
	return charges, lines.Err()
}
