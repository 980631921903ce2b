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

	print    string // what a repeated request must agree on
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

func (r Request) fingerprint() string { return r.print }

// fingerprint digests what is the same when a request is repeated.
func fingerprint(r *http.Request, body []byte) string {
	h := sha256.New()
	for _, part := range [][]byte{[]byte(r.URL.EscapedPath()), []byte(r.URL.RawQuery), []byte(r.Header.Get("Content-Type")), body} {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part)))) // so that no part runs into the next
		h.Write(part)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// MarshalJSON is for the digest of the input in records.
func (r Request) MarshalJSON() ([]byte, error) { return json.Marshal(r.print) }

// read returns the body of r.
func read(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, *problem) {
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
