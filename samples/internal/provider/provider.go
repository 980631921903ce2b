// Package provider is a payment provider to test against. It has no idempotency
// keys: it charges every time it is asked. It can be asked what was charged for
// an order, and it can be made to spoil its answers.
//
//	POST /charge  {"order", "cents", "caller"}      charges
//	POST /refund  {"order"}                         pays back what is not paid back yet
//	GET  /charges?order=…                           what the ledger says
//	POST /fault   {"order", "kind", "times", "delay"}  spoils the next answers
//	POST /let-go  {"order"}                         ends what the fault hold holds
package provider

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// Kind is a way to spoil the answer to a charge. The charge is committed to the
// ledger before, except under Decline.
type Kind string

const (
	// Drop closes the connection without an answer.
	Drop Kind = "drop"
	// Slow answers after Fault.Delay.
	Slow Kind = "slow"
	// Hold answers after /let-go.
	Hold Kind = "hold"
	// Decline charges nothing and answers 402.
	Decline Kind = "decline"
)

// Fault spoils the next answers for an order.
type Fault struct {
	Order string        `json:"order"`
	Kind  Kind          `json:"kind"`
	Times int           `json:"times"`
	Delay time.Duration `json:"delay,omitempty"` // of Slow
}

// Provider is the HTTP handler.
type Provider struct {
	ledger *ledger
	told   func(Charge)
	mux    *http.ServeMux

	mu     sync.Mutex
	faults map[string]*Fault
	held   map[string]chan struct{} // by order; closed to let go
}

// Open returns a provider whose ledger is the file at path. told, if not nil,
// is called with every charge and refund after it is committed and before it is
// answered.
func Open(path string, told func(Charge)) (*Provider, error) {
	l, err := openLedger(path)
	if err != nil {
		return nil, err
	}
	if told == nil {
		told = func(Charge) {}
	}
	p := &Provider{ledger: l, told: told, mux: http.NewServeMux(), faults: map[string]*Fault{}, held: map[string]chan struct{}{}}
	p.mux.HandleFunc("POST /charge", p.charge)
	p.mux.HandleFunc("POST /refund", p.refund)
	p.mux.HandleFunc("GET /charges", p.charges)
	p.mux.HandleFunc("POST /fault", p.fault)
	p.mux.HandleFunc("POST /let-go", p.letGo)
	return p, nil
}

// Close closes the ledger.
func (p *Provider) Close() error { return p.ledger.file.Close() }

// ServeHTTP implements http.Handler.
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.mux.ServeHTTP(w, r) }

func (p *Provider) charge(w http.ResponseWriter, r *http.Request) {
	var c Charge
	if !read(w, r, &c) {
		return
	}
	if c.Order == "" || c.Cents <= 0 {
		http.Error(w, "a charge needs an order and a positive amount", http.StatusBadRequest)
		return
	}
	fault := p.spend(c.Order)
	if fault.Kind == Decline {
		http.Error(w, "card declined", http.StatusPaymentRequired)
		return
	}
	var letGo chan struct{}
	if fault.Kind == Hold {
		letGo = p.hold(c.Order)
	}
	c, err := p.ledger.add(Charge{Order: c.Order, Cents: c.Cents, Caller: c.Caller, Fault: fault.Kind})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	p.told(c)
	switch fault.Kind {
	case Drop:
		panic(http.ErrAbortHandler) //nolint:forbidigo // makes net/http close the connection
	case Slow:
		// Not ended by r.Context: the answer is to be late, not lost.
		<-time.After(fault.Delay)
	case Hold:
		<-letGo
	}
	write(w, c)
}

func (p *Provider) refund(w http.ResponseWriter, r *http.Request) {
	var in Charge
	if !read(w, r, &in) {
		return
	}
	refunds, err := p.ledger.refund(in.Order, in.Caller)
	for _, r := range refunds {
		p.told(r)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	write(w, refunds)
}

func (p *Provider) charges(w http.ResponseWriter, r *http.Request) {
	write(w, p.ledger.of(r.URL.Query().Get("order")))
}

func (p *Provider) fault(w http.ResponseWriter, r *http.Request) {
	var f Fault
	if !read(w, r, &f) {
		return
	}
	switch f.Kind {
	case Drop, Slow, Hold, Decline:
	default:
		http.Error(w, fmt.Sprintf("no such fault: %q", f.Kind), http.StatusBadRequest)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults[f.Order] = &f
	write(w, f)
}

func (p *Provider) letGo(w http.ResponseWriter, r *http.Request) {
	var f Fault
	if !read(w, r, &f) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if held, ok := p.held[f.Order]; ok {
		close(held)
		delete(p.held, f.Order)
	}
	write(w, f)
}

// spend returns the fault that is armed for order, counting it down.
func (p *Provider) spend(order string) Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	f, ok := p.faults[order]
	if !ok || f.Times <= 0 {
		return Fault{}
	}
	f.Times--
	return *f
}

// hold returns what letGo closes. Calls held for one order are let go together.
func (p *Provider) hold(order string) chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held[order] == nil {
		p.held[order] = make(chan struct{})
	}
	return p.held[order]
}

func read(w http.ResponseWriter, r *http.Request, into any) bool {
	if err := json.NewDecoder(r.Body).Decode(into); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}

func write(w http.ResponseWriter, answer any) {
	w.Header().Set("Content-Type", "application/json")
	// An error says that the caller has gone.
	_ = json.NewEncoder(w).Encode(answer)
}
