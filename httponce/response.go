package httponce

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Response is what is recorded of a response, and what a Reconcile function finds.
type Response struct {
	Status int         `json:"status"` // 200 if 0
	Header http.Header `json:"header,omitempty"`
	Body   []byte      `json:"body,omitempty"`
	// TooLarge says that the body was over Options.MaxResponse, and was not kept.
	TooLarge bool `json:"tooLarge,omitempty"`

	fresh bool // of a handler that has just run; else it was recorded
}

// kept are the headers that are replayed: they describe the body and what it is about.
var kept = []string{
	"Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Type",
	"Etag", "Last-Modified", "Link", "Location", "Vary",
}

// neverKept are the headers of one response or one connection.
var neverKept = []string{
	"Set-Cookie", "Set-Cookie2", "Date", "Content-Length", ReplayedHeader,
	"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// only returns the headers of h with those names.
func only(names []string, h http.Header) http.Header {
	some := http.Header{}
	for name, values := range h {
		if name = http.CanonicalHeaderKey(name); slices.Contains(names, name) {
			some[name] = values
		}
	}
	return some
}

// replay writes what was recorded, with those headers.
func (r Response) replay(w http.ResponseWriter, headers []string) {
	maps.Copy(w.Header(), only(headers, r.Header))
	w.Header().Set(ReplayedHeader, "true")
	finish(w, r.status(), r.Body)
}

func (r Response) status() int { return cmp.Or(r.Status, http.StatusOK) }

// finish writes a whole response whose headers are set.
func finish(w http.ResponseWriter, status int, body []byte) {
	if hasBody(status) {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that has gone comes again
}

// isStatus reports whether a response can end with that status.
func isStatus(status int) bool { return 200 <= status && status <= 999 }

// hasBody reports whether a response with that status may have a body.
func hasBody(status int) bool {
	return status != http.StatusNoContent && status != http.StatusNotModified
}

// withoutTrailers returns a copy of h in which no trailer is announced or set.
func withoutTrailers(h http.Header) http.Header {
	h = h.Clone()
	maps.DeleteFunc(h, func(name string, _ []string) bool {
		return name == "Trailer" || strings.HasPrefix(name, http.TrailerPrefix)
	})
	return h
}
