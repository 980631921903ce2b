// Package httponce answers requests that carry an Idempotency-Key at most once: a
// middleware for net/http, over a guard of package atmostonce. It follows the IETF's
// draft-ietf-httpapi-idempotency-key-header-07.
//
//	once, err := httponce.New(guard, httponce.Options{Identity: customer})
//	mux.Handle("POST /orders", once(http.HandlerFunc(createOrder)))
//
// The first request with a key runs the handler, and its response is recorded. A repeated
// one gets that response again, with the header "Idempotent-Replayed: true", and the
// handler does not run. A key is one effect per method, route and caller.
//
// What is not run is answered with application/problem+json of RFC 9457. A 4xx of the
// middleware's own says that this request did nothing, and a 5xx that something is not
// known or not to be had; docs/http.md lists them.
//
// The handler gets the key for its own callees from once.Key(r.Context()), and may say
// with [Judge] what its response means. Its context does not end when the client goes
// away: the effect would be in doubt, and the client, who is about to repeat the request,
// would get no answer. Set a deadline of your own in the handler.
//
// The handler gets a copy of the request, with the whole body in memory. The response is
// held back until it is recorded. The handler's ResponseWriter can
// therefore not be flushed or hijacked (http.ResponseController says
// http.ErrNotSupported), and drops trailers and informational responses. A panic of the
// handler passes through, and the effect is in doubt.
package httponce
