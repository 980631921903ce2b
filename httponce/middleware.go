package httponce

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/once"
)

// middleware is what New makes.
type middleware struct {
	Options
	guarded func(context.Context, Request) (Response, error)
}

// exchange is one request on its way through the middleware.
type exchange struct {
	handler http.Handler
	writer  *recorder
	client  context.Context // the client waits for the answer, or whoever stands between
	stay    func() bool     // from now on the client may go away
}

// New returns a middleware over g: a function that makes a handler one whose effect
// happens at most once per key. It reports everything that is wrong with the options, and
// with what g was given before. Handlers may be any number; for a nil one it panics.
func New(g *atmostonce.Guard, o Options) (func(http.Handler) http.Handler, error) {
	o, err := o.complete()
	if g == nil {
		err = errors.Join(err, errors.New("the guard is nil"))
	}
	if err != nil {
		return nil, fmt.Errorf("httponce: %w", err)
	}
	m := &middleware{Options: o}
	m.guarded = atmostonce.Func(g, o.Name, o.Policy, m.run)
	if err := g.Err(); err != nil {
		return nil, fmt.Errorf("httponce: %w", err)
	}
	return func(next http.Handler) http.Handler {
		if f, is := next.(http.HandlerFunc); next == nil || is && f == nil {
			panic("httponce: the handler is nil") //nolint:forbidigo // as http.Handle does: no request is to find out
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { m.serve(w, r, next) })
	}, nil
}

// serve answers one request.
func (m *middleware) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	key, given, ok := keyOf(r.Header, m.Unquoted)
	if !slices.Contains(m.Methods, r.Method) || !given && m.KeyOptional {
		next.ServeHTTP(w, r)
		return
	}
	identity, err := m.Identity(r)
	switch {
	case err != nil || identity == "":
		m.answer(w, callerUnknown, nil)
		return
	case !given:
		m.answer(w, keyMissing, nil)
		return
	case !ok:
		m.answer(w, keyMalformed, nil)
		return
	}
	body, unread := read(w, r, m.MaxRequest)
	if unread != nil {
		m.answer(w, *unread, nil)
		return
	}
	digest, err := fingerprint(r, body)
	if err != nil {
		m.answer(w, bodyIncomplete, nil)
		return
	}
	// A client that goes away ends the wait for the key, and nothing else.
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	x := &exchange{handler: next, writer: newRecorder(w, m.MaxResponse), client: r.Context(), stay: context.AfterFunc(r.Context(), cancel)}
	defer x.stay()
	response, err := m.guarded(ctx, Request{HTTP: r, Identity: identity, Key: key, Body: body, print: digest, exchange: x})
	m.conclude(w, x.writer, response, err)
}

// conclude sends the answer.
func (m *middleware) conclude(w http.ResponseWriter, handler *recorder, response Response, err error) {
	refused, status := (*atmostonce.Error)(nil), (*StatusError)(nil)
	switch {
	case err == nil && response.fresh:
		handler.deliver()
	case err == nil && response.TooLarge:
		m.answer(w, notKept, nil)
	case err == nil && !isStatus(response.status()):
		m.answer(w, unavailable, nil) // of a Reconcile function
	case err == nil:
		response.replay(w, m.Headers)
	case handler.passing:
	case errors.As(err, &refused) && handler.ended && handler.status >= http.StatusInternalServerError:
		handler.deliver() // the doubt, in the handler's own words
	case refused != nil:
		m.answer(w, problemOf(refused), refused)
	case errors.As(err, &status):
		handler.deliver()
	default: // the client has gone
		m.answer(w, unavailable, nil)
	}
}

// run is the function that is guarded: it runs the handler.
func (m *middleware) run(ctx context.Context, in Request) (Response, error) {
	x := in.exchange
	if !x.stay() {
		return Response{}, once.NotDone(context.Cause(x.client))
	}
	r := in.forHandler().WithContext(context.WithValue(ctx, recorderKey{}, x.writer))
	defer func() { // net/http knows of the form of its own request alone
		if form := r.MultipartForm; form != nil && form != in.HTTP.MultipartForm {
			_ = form.RemoveAll()
		}
	}()
	x.handler.ServeHTTP(x.writer, r)
	x.writer.end()
	err := &StatusError{x.writer.status}
	switch verdict, final := m.verdict(x.writer, err); {
	case verdict == once.Lock:
		return x.writer.response(m.Headers), nil
	case verdict == once.Unlock && final:
		return Response{}, once.NotDone(err)
	case verdict == once.Unlock:
		return Response{}, err
	}
	return Response{}, once.MaybeDone(err)
}

// verdict says what the handler's response means: Lock is for what is recorded.
func (m *middleware) verdict(handler *recorder, err *StatusError) (verdict once.FailurePolicy, final bool) {
	if said := handler.said.Load(); said != nil {
		return *said, true
	}
	if err.Status < http.StatusBadRequest {
		return once.Lock, true
	}
	if verdict, final = m.Policy.OnFailure.Decide(err); !final && err.Status >= http.StatusInternalServerError {
		return once.Doubt, true
	}
	return verdict, final
}

// StatusError is a response of a handler with a status from 400, as Classify is asked
// about it.
type StatusError struct{ Status int }

// Error names the status.
func (e *StatusError) Error() string {
	return fmt.Sprintf("the handler answered with status %d", e.Status)
}
