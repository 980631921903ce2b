package httponce

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/once"
)

// Options are the options of New. Identity is required.
type Options struct {
	// Identity returns who sends the request: an account that was authenticated before,
	// never something that the caller may choose. It is part of the key, since one
	// caller's key must not get another one's response. An error, or "", is answered
	// with 403. Where all callers are one, say so with Anyone. The host is no part of the
	// key: if it stands for a tenant, return it, too. It must leave the body alone, and
	// may be called from any number of goroutines.
	Identity func(*http.Request) (string, error)
	// Name is that of the guarded function, in keys, logs and metrics; another name makes
	// other keys. Defaults to "http".
	Name string
	// Methods are those of requests that are guarded; others pass through untouched.
	// Defaults to POST and PATCH.
	Methods []string
	// KeyOptional lets a request without a key pass through unguarded. Without it, the
	// answer is 400.
	KeyOptional bool
	// Unquoted also takes keys that are not in double quotes, as many clients send them:
	// of letters, digits and -._~+/=: alone. With and without quotes it is the same key.
	Unquoted bool

	// Policy says how the requests are guarded. TTL is how long a key is remembered: publish
	// it, with your API. What TTL and InDoubt do not say is taken from the guard's
	// Options.Defaults.
	//
	// OnDuplicate: Return, the default, answers 409 while the first request runs, and
	// Wait answers when that has ended. Reject is refused: it would not replay.
	//
	// OnFailure says what a 4xx of the handler means. Lock, the default, keeps it:
	// it is the answer to the key. Unlock takes it to say that nothing happened: the key
	// is free, and a repeated request runs the handler again. Doubt and Classify are as
	// ever; Classify is asked about each 4xx and 5xx, as a *StatusError. A 5xx
	// is in doubt unless Classify or Judge says otherwise.
	//
	// Match is what a repeated request must agree on; it gets a Request. Defaults to
	// path, query, Content-Type and body, byte by byte. Reconcile takes a
	// func(context.Context, Request) (Response, error). Key and Scope are the
	// middleware's own.
	Policy once.Policy

	// Headers are names of response headers to keep and replay, besides Cache-Control,
	// Content-Disposition, Content-Encoding, Content-Language, Content-Type, ETag,
	// Last-Modified, Link, Location, Vary and X-Content-Type-Options, where the handler
	// has set them: what is in front of the middleware sets its own each time.
	// Set-Cookie, Date and those of the connection are refused.
	Headers []string
	// MaxRequest is the size in bytes over which a request's body is refused with 413.
	// Defaults to 1 MiB.
	MaxRequest int64
	// MaxResponse is the size in bytes over which a response's body is not kept: it is
	// passed on to the client as it comes, and a repeated request is answered
	// with 500. Defaults to 1 MiB; what the guard's codec makes of it must fit into the
	// guard's MaxOutcome.
	MaxResponse int

	// Documentation is the URL of what your API says about the key. Problems link to it,
	// and their types are fragments of it. Defaults to docs/http.md of this module.
	Documentation string
}

const (
	defaultName = "http"
	defaultMax  = 1 << 20
	page        = "https://github.com/atmostonce/atmostonce/blob/main/docs/http.md"
)

// Anyone is the Identity where callers are not distinguished: whoever sends another one's
// key gets that one's response.
func Anyone(*http.Request) (string, error) { return "anyone", nil }

// complete returns o with its defaults, and all that is wrong with it.
func (o Options) complete() (Options, error) {
	var errs []error
	complain := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.Identity == nil {
		complain("Identity is required: say who sends a request, or Anyone")
	}
	if o.Name == "" {
		o.Name = defaultName
	}
	if o.Methods == nil {
		o.Methods = []string{http.MethodPost, http.MethodPatch}
	}
	if len(o.Methods) == 0 {
		complain("Methods: there is none, so nothing would be guarded; nil means POST and PATCH")
	}
	for _, m := range o.Methods {
		if !isToken(m) || m != strings.ToUpper(m) {
			complain("Methods: %q is no method, and no request would match it: methods are in capitals", m)
		}
		if slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodConnect}, m) {
			complain("Methods: %q has no effect to guard", m)
		}
	}
	names := slices.Clone(kept)
	for _, name := range o.Headers {
		if !isToken(name) {
			complain("Headers: %q is no name of a header", name)
		}
		if name = http.CanonicalHeaderKey(name); slices.Contains(neverKept, name) {
			complain("Headers: %s is of one response alone, and must not be replayed", name)
		}
		names = append(names, name)
	}
	o.Headers = names
	if o.MaxRequest == 0 {
		o.MaxRequest = defaultMax
	}
	if o.MaxResponse == 0 {
		o.MaxResponse = defaultMax
	}
	if o.MaxRequest < 0 || o.MaxResponse < 0 {
		complain("MaxRequest and MaxResponse must be positive")
	}
	if o.Documentation == "" {
		o.Documentation = page
	}
	if u, err := url.Parse(o.Documentation); err != nil || !u.IsAbs() || u.Fragment != "" {
		complain("Documentation must be an absolute URL without a fragment")
	}
	var err error
	o.Policy, err = completePolicy(o.Policy)
	if err != nil {
		complain("Policy: %w", err)
	}
	return o, errors.Join(errs...)
}

// completePolicy returns p with what it does not say, and what is wrong with it.
func completePolicy(p once.Policy) (once.Policy, error) {
	var errs []error
	if !p.Key.IsZero() || p.Scope != 0 {
		errs = append(errs, errors.New("Key and Scope are not to be set: the key is in the request"))
	}
	if p.OnDuplicate == once.Reject {
		errs = append(errs, errors.New("OnDuplicate Reject would not replay: take Return or Wait"))
	}
	if p.InDoubt == once.Resume {
		errs = append(errs, errors.New("InDoubt Resume means a retry of Temporal's: take Rerun or Reconcile"))
	}
	p.Key, p.Scope = keys.From(Request.effect), keys.PerNamespace
	if p.Match.IsZero() {
		p.Match = keys.From(Request.fingerprint)
	}
	if p.OnDuplicate == 0 {
		p.OnDuplicate = once.Return
	}
	if p.OnFailure == (once.FailurePolicy{}) {
		p.OnFailure = once.Lock
	}
	errs = append(errs, p.Validate(), p.Check(reflect.TypeFor[func(context.Context, Request) (Response, error)]()))
	return p, errors.Join(errs...)
}
