package httponce

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/atmostonce/atmostonce/once"
)

var errReturned = errors.New("httponce: the handler has returned, and its response is over")

// recorder is the ResponseWriter of a guarded handler. It holds the response back until
// that is recorded, or too large for it.
type recorder struct {
	w      http.ResponseWriter
	limit  int
	header http.Header // as the handler sees it

	mu     sync.Mutex  // what a handler has left running may write when all is over
	sent   http.Header // as it was when the status was written
	status int         // 0 before that
	body   []byte

	passing bool // the response is on its way to the client
	ended   bool // the handler has returned
	said    atomic.Pointer[once.FailurePolicy]
}

func newRecorder(w http.ResponseWriter, limit int) *recorder {
	header := http.Header{}
	maps.Copy(header, w.Header().Clone())
	return &recorder{w: w, limit: limit, header: header}
}

// Header implements http.ResponseWriter.
func (r *recorder) Header() http.Header { return r.header }

// WriteHeader implements http.ResponseWriter. Informational responses are dropped; a
// status that is none stands for a handler that has failed.
func (r *recorder) WriteHeader(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begin(status)
}

// begin takes the status and the headers, if there is no status yet.
func (r *recorder) begin(status int) {
	if r.status != 0 || 100 <= status && status < 200 {
		return
	}
	if !isStatus(status) {
		status = http.StatusInternalServerError
	}
	r.status, r.sent = status, withoutTrailers(r.header)
	r.sent.Del(ReplayedHeader)
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return 0, errReturned
	}
	r.begin(http.StatusOK)
	switch {
	case !hasBody(r.status):
		return 0, http.ErrBodyNotAllowed
	case r.passing:
		return r.w.Write(p)
	case len(p) > r.limit-len(r.body):
		return r.pass(p)
	}
	r.body = append(r.body, p...)
	return len(p), nil
}

// pass begins to send the response, which is too large to be kept.
func (r *recorder) pass(p []byte) (int, error) {
	r.passing = true
	replace(r.w.Header(), r.sent)
	r.w.WriteHeader(r.status)
	if _, err := r.w.Write(r.body); err != nil {
		return 0, err
	}
	r.body = nil
	return r.w.Write(p)
}

// end is called when the handler has returned.
func (r *recorder) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begin(http.StatusOK)
	r.ended = true
}

// deliver sends the response of a handler that has returned, if it is not sent yet.
func (r *recorder) deliver() {
	if !r.passing {
		finish(r.w, r.sent, r.status, r.body)
	}
}

// response returns what is kept, with those of the handler's headers. What something in
// front has set, it sets again in front of a replay, or for another client another way.
func (r *recorder) response(headers []string) Response {
	own := only(headers, r.sent)
	maps.DeleteFunc(own, func(name string, values []string) bool { return slices.Equal(values, r.w.Header()[name]) })
	return Response{Status: r.status, Header: own, Body: r.body, TooLarge: r.passing, fresh: true}
}

type recorderKey struct{}

// Judge says what the response that the handler is about to give means, whatever its
// status: with once.Unlock nothing has happened, the key is free, and a repeated request
// runs the handler again; with once.Lock the response is the answer to the key, and is
// replayed; anything else puts the effect in doubt. ctx is that of the handler's request.
// The last call counts; outside of guarded handlers it does nothing.
func Judge(ctx context.Context, verdict once.FailurePolicy) {
	if r, guarded := ctx.Value(recorderKey{}).(*recorder); guarded {
		r.said.Store(&verdict)
	}
}
