package httponce

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/atmostonce/atmostonce/keys"
)

// Request is a request that is guarded, as the functions of a policy get it. They must
// not change it.
type Request struct {
	HTTP     *http.Request // without its body
	Identity string        // what Options.Identity returned
	Key      string        // as the client chose it, without quotes
	Body     []byte

	exchange *exchange
}

// effect names what the request is to do.
func (r Request) effect() string {
	route := r.HTTP.Pattern
	if route == "" {
		route = r.HTTP.URL.EscapedPath()
	}
	return keys.Join(r.HTTP.Method, route, r.Identity, r.Key)
}

// fingerprint is what a repeated request must agree on.
func (r Request) fingerprint() string {
	h := sha256.New()
	u := r.HTTP.URL
	for _, part := range [][]byte{[]byte(u.EscapedPath()), []byte(u.RawQuery), []byte(r.HTTP.Header.Get("Content-Type")), r.Body} {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part)))) // so that no part runs into the next
		h.Write(part)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// MarshalJSON is for the digest of the input in records.
func (r Request) MarshalJSON() ([]byte, error) { return json.Marshal(r.fingerprint()) }

// read returns the body of r.
func read(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, *problem) {
	if r.ContentLength > limit {
		return nil, &requestTooLarge
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	switch large := (*http.MaxBytesError)(nil); {
	case errors.As(err, &large):
		return nil, &requestTooLarge
	case err != nil:
		return nil, &bodyIncomplete
	}
	return body, nil
}

// forHandler returns the request as the handler gets it, with its body.
func (r Request) forHandler() *http.Request {
	h := *r.HTTP
	h.Body, h.ContentLength, h.TransferEncoding = http.NoBody, int64(len(r.Body)), nil
	if len(r.Body) > 0 {
		h.Body = io.NopCloser(bytes.NewReader(r.Body))
	}
	return &h
}
