package httponce

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/once"
)

// problem is why a request was not answered by its handler. Nothing in it is input.
type problem struct {
	fragment      string // of the documentation: with it, the type
	status        int
	title, detail string
}

var (
	keyMissing = problem{"key-missing", http.StatusBadRequest, "Idempotency-Key is missing",
		"This operation requires the request header Idempotency-Key, with a key that is new for each effect, and the same when a request is repeated."}
	keyMalformed = problem{"key-malformed", http.StatusBadRequest, "Idempotency-Key is malformed",
		"The request header Idempotency-Key must be there once, as a string in double quotes, of 1 to 255 printable ASCII characters."}
	callerUnknown = problem{"caller-unknown", http.StatusForbidden, "The caller is not known",
		"A key is one caller's, and this request does not say whose it is. It was not processed."}
	requestTooLarge = problem{"request-too-large", http.StatusRequestEntityTooLarge, "The request is too large",
		"The body of the request is over the limit. It was not processed."}
	bodyIncomplete = problem{"body-incomplete", http.StatusBadRequest, "The request is incomplete",
		"The body of the request could not be read to its end. It was not processed."}
	keyReused = problem{"key-reused", http.StatusUnprocessableEntity, "Idempotency-Key is already used",
		"The key belongs to another request: path, query, Content-Type or body differ. This one was not processed. Take a new key for a new effect."}
	inFlight = problem{"in-flight", http.StatusConflict, "A request with this Idempotency-Key is in flight",
		"The first request with the key is still being processed. Repeat this one later, with the same key, to get its response."}
	inDoubt = problem{"in-doubt", http.StatusServiceUnavailable, "It is not known whether the request took effect",
		"A request with this key may have taken effect, and has left no answer. Do not take another key. Repeat the request later with the same one, or ask for help with the digest."}
	notKept = problem{"response-not-kept", http.StatusInternalServerError, "The response was not kept",
		"A request with this key was processed, and its response could not be kept. It is not processed again. Look at the resource for what came of it."}
	unavailable = problem{"unavailable", http.StatusServiceUnavailable, "The request was not processed",
		"For now it cannot be found out whether a request with this key was processed before. Repeat the request later with the same key."}
)

// problemOf returns what to say of an error of the guard.
func problemOf(e *atmostonce.Error) problem {
	switch e.Reason {
	case once.Mismatch:
		return keyReused
	case once.InFlight:
		if e.Untouched || e.Since.IsZero() { // nobody holds the key: the guard is closed
			return unavailable
		}
		return inFlight
	case once.InDoubt:
		return inDoubt
	case once.OutcomeNotKept:
		return notKept
	}
	return unavailable
}

// soon is when a request is worth another try where nobody knows better.
const soon = time.Second

// document is a problem as of RFC 9457.
type document struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Digest string `json:"digest,omitempty"` // of the key, where somebody has to look into it
}

// answer writes p. err is what it rests on; nil if the guard was not asked.
func (m *middleware) answer(w http.ResponseWriter, p problem, err error) {
	d := document{Type: m.Documentation + "#" + p.fragment, Title: p.title, Status: p.status, Detail: p.detail}
	after := time.Duration(0)
	if e := (*atmostonce.Error)(nil); errors.As(err, &e) {
		after = e.RetryAfter
		if p == inDoubt || p == notKept {
			d.Digest = e.Key
		}
	}
	switch p {
	case inFlight:
		after = soon // the guard's time is that of a lease, which is longer than most requests
	case unavailable:
		after = max(after, soon) // another server may answer
	}
	h := w.Header().Clone()
	if after > 0 {
		h.Set("Retry-After", seconds(after))
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Language", "en")
	h.Set("Cache-Control", "no-store")
	h.Add("Link", "<"+m.Documentation+`>; rel="describedby"`)
	body, _ := json.Marshal(d) // of strings and a number
	finish(w, h, p.status, body)
}

// seconds is a time for Retry-After: whole seconds, and not too early.
func seconds(d time.Duration) string { return strconv.Itoa(int(math.Ceil(d.Seconds()))) }
