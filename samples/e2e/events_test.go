package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/atmostonce/atmostonce/interceptor"
)

// events is an observer that keeps what the guard says.
type events struct {
	mu  sync.Mutex
	all []interceptor.Event
}

// Begin implements interceptor.Observer.
func (e *events) Begin(ctx context.Context, _ interceptor.Event) (context.Context, func(interceptor.Event)) {
	return ctx, func(event interceptor.Event) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.all = append(e.all, event)
	}
}

// of returns the events that the condition holds for.
func (e *events) of(condition func(interceptor.Event) bool) (found []interceptor.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, event := range e.all {
		if condition(event) {
			found = append(found, event)
		}
	}
	return found
}

func (e *events) kind(k interceptor.Kind) []interceptor.Event {
	return e.of(func(event interceptor.Event) bool { return event.Kind == k })
}

func (e *events) notice(what string) []interceptor.Event {
	return e.of(func(event interceptor.Event) bool { return event.Notice == what })
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
