package engine

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptrace"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/atmostonce/atmostonce/internal/effect"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// evidence is what is known of one run of a body besides the error that it
// returns.
//
// An error speaks of the last try, and net/http is one of the clients that try
// again by themselves. The trace in the body's context says what it did.
type evidence struct {
	says  func(error) (open, known bool) // see Door.LeavesOpen
	steps *steps                         // of the body; nil: it took none

	undone bool        // a ledger says that there was no effect, nor will there be
	begun  atomic.Bool // once.Begin was called
	traced atomic.Bool // the trace was asked for, as net/http does first of all
	wrote  atomic.Bool // net/http has written something of a request

	mu      sync.Mutex
	refused []error // why net/http got no connection

	first watched // the context of the run, as a rule: Observe may need another one
}

// watch returns a context under which e sees what net/http does.
func (e *evidence) watch(ctx context.Context) context.Context {
	w := &e.first
	if w.evidence != nil {
		w = &watched{}
	}
	w.Context, w.evidence = ctx, e
	return w
}

// watched is a context whose trace is made when it is asked for, as net/http does
// at the beginning of each request: most bodies do not. That it was asked for counts
// too: a request that net/http refuses to send reaches none of the hooks.
type watched struct {
	context.Context
	evidence *evidence

	once   sync.Once
	traced atomic.Pointer[context.Context]
}

// Value implements context.Context.
func (w *watched) Value(key any) any {
	switch key {
	case stepsKey{}:
		if s := w.evidence.steps; s != nil {
			return s
		}
	case effect.Key{}:
		if s := w.evidence.steps; s != nil {
			return s.call.effect()
		}
	case traceKey:
		w.once.Do(w.trace)
	}
	if traced := w.traced.Load(); traced != nil {
		return (*traced).Value(key)
	}
	return w.Context.Value(key)
}

func (w *watched) trace() {
	e := w.evidence
	e.traced.Store(true)
	traced := httptrace.WithClientTrace(w.Context, &httptrace.ClientTrace{
		DNSDone:          func(done httptrace.DNSDoneInfo) { e.refuse(done.Err) },
		ConnectDone:      func(_, _ string, err error) { e.refuse(err) },
		TLSHandshakeDone: func(_ tls.ConnectionState, err error) { e.refuse(err) },
		// Before the headers leave the process, and after it: another Transport may
		// know one of the two.
		WroteHeaderField: func(string, []string) { e.wrote.Store(true) },
		WroteHeaders:     func() { e.wrote.Store(true) },
	})
	w.traced.Store(&traced)
}

// traceKey is the key of the trace in a context. It is not exported, but whoever is
// asked for it sees it.
var traceKey = func() any {
	var l listener
	httptrace.ContextClientTrace(&l)
	return l.key
}()

type listener struct {
	context.Context
	key any
}

// Value implements context.Context.
func (l *listener) Value(key any) any {
	l.key = key
	return nil
}

// maxRefused is how many failures to connect are remembered: the last ones, one
// of which a body returns.
const maxRefused = 20

func (e *evidence) refuse(err error) {
	if !distinct(err) {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.refused) == maxRefused {
		e.refused = slices.Delete(e.refused, 0, 1)
	}
	e.refused = append(e.refused, err)
}

// distinct reports whether no other failure is equal to err, as io.EOF is to
// every other io.EOF.
func distinct(err error) bool {
	if header := (tls.RecordHeaderError{}); errors.As(err, &header) {
		return header.Conn != nil && reflect.ValueOf(err).Comparable()
	}
	t := reflect.TypeOf(err)
	return t != nil && t.Kind() == reflect.Pointer && t != reflect.TypeOf(errors.New(""))
}

// neverConnected reports whether err is one of those with which net/http was
// refused a connection, and net/http has written nothing on another one.
func (e *evidence) neverConnected(err error) bool {
	if e.wrote.Load() {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.ContainsFunc(e.refused, func(refused error) bool {
		if err == http.ErrSchemeMismatch { //nolint:errorlint // net/http puts it in the place of this one
			return errors.As(refused, &tls.RecordHeaderError{})
		}
		return refused == err //nolint:errorlint // another one may speak of another connection
	})
}

// neverSent are the beginnings of what net/http says of a request that it does
// not send.
var neverSent = []string{
	"unsupported protocol scheme", "http: no Host in request URL", "net/http: invalid method",
	"net/http: invalid header field", "net/http: invalid trailer",
}

// neverTried reports whether err is net/http's refusal to send a request, and it
// has written no other one.
func (e *evidence) neverTried(err error) bool {
	text := err.Error()
	known := slices.ContainsFunc(neverSent, func(s string) bool { return strings.HasPrefix(text, s) })
	return known && e.traced.Load() && !e.wrote.Load()
}

// verdict is what err says about the effect of a claim of that origin, under the
// policy; over says that err came after the attempt was over.
func (e *evidence) verdict(p once.FailurePolicy, err error, origin store.Origin, over bool) once.FailurePolicy {
	verdict, final := p.Decide(err)
	unsure := e.steps.areUnsure()
	if final && unsure && e.steps.haveMarked(err) {
		final = false // that was about another step
	}
	if !final && (unsure || !e.undone && (over || e.begun.Load() || e.leavesOpen(err))) {
		return once.Doubt
	}
	if verdict == once.Lock && origin == store.Taken {
		return once.Doubt // it cannot speak for the runs before it
	}
	return verdict
}
