package httponce

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
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

// encoded is how a Response is kept as JSON, which takes UTF-8 alone: a header may have
// other bytes.
type encoded struct {
	plain
	Raw map[string][][]byte `json:"rawHeader,omitempty"`
}

type plain Response

// MarshalJSON implements json.Marshaler. Headers that are not UTF-8 are kept in base64.
func (r Response) MarshalJSON() ([]byte, error) {
	e := encoded{plain: plain(r), Raw: map[string][][]byte{}}
	e.Header = http.Header{}
	for name, values := range r.Header {
		if !slices.ContainsFunc(values, func(v string) bool { return !utf8.ValidString(v) }) {
			e.Header[name] = values
			continue
		}
		for _, v := range values {
			e.Raw[name] = append(e.Raw[name], []byte(v))
		}
	}
	return json.Marshal(e)
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *Response) UnmarshalJSON(data []byte) error {
	var e encoded
	if err := json.Unmarshal(data, &e); err != nil {
		return err
	}
	for name, values := range e.Raw {
		if e.Header == nil {
			e.Header = http.Header{}
		}
		for _, v := range values {
			e.Header[name] = append(e.Header[name], string(v))
		}
	}
	*r = Response(e.plain)
	return nil
}

// kept are the headers that are replayed: they describe the body and what it is about.
var kept = []string{
	"Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Type",
	"Etag", "Last-Modified", "Link", "Location", "Vary", "X-Content-Type-Options",
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
	h := w.Header().Clone()
	maps.Copy(h, only(headers, r.Header))
	h.Set(ReplayedHeader, "true")
	finish(w, h, r.status(), r.Body)
}

func (r Response) status() int { return cmp.Or(r.Status, http.StatusOK) }

// finish writes a whole response.
func finish(w http.ResponseWriter, header http.Header, status int, body []byte) {
	h := w.Header()
	encoded := h.Get("Content-Encoding") != "" // by what is in front, to a length of its own
	replace(h, header)
	h.Del("Content-Length")
	if hasBody(status) && !encoded {
		h.Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that has gone comes again
}

// replace gives h the headers in by, and no others.
func replace(h, by http.Header) {
	clear(h)
	maps.Copy(h, by)
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
