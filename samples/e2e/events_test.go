package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/atmostonce/atmostonce/observe"
)

// events is an observer that keeps what the guard says.
type events struct {
	mu  sync.Mutex
	all []observe.Event
}

// Begin implements observe.Observer.
func (e *events) Begin(ctx context.Context, _ observe.Event) (context.Context, func(observe.Event)) {
	return ctx, func(event observe.Event) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.all = append(e.all, event)
	}
}

// of returns the events that the condition holds for.
func (e *events) of(condition func(observe.Event) bool) (found []observe.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, event := range e.all {
		if condition(event) {
			found = append(found, event)
		}
	}
	return found
}

func (e *events) kind(k observe.Kind) []observe.Event {
	return e.of(func(event observe.Event) bool { return event.Kind == k })
}

func (e *events) notice(what observe.Notice) []observe.Event {
	return e.of(func(event observe.Event) bool { return event.Notice == what })
}

// String lists the first events, one a line.
func (e *events) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var b strings.Builder
	for _, v := range e.all[:min(len(e.all), 20)] {
		fmt.Fprintf(&b, "%v %s: %s attempt %d, record %q, took %v, %.60v\n",
			v.Kind, v.Notice, v.WorkflowID, v.Attempt, v.Record.State, v.Took, v.Err)
	}
	return b.String()
}
