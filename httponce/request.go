package httponce

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"slices"

	"github.com/atmostonce/atmostonce/keys"
)

// Request is a request that is guarded, as the functions of a policy get it. They must
// not change it.
type Request struct {
	HTTP     *http.Request // without its body
	Identity string        // what Options.Identity returned
	Key      string        // as the client chose it, without quotes
	Body     []byte        // empty where something in front has parsed the form in it: see HTTP.PostForm

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
func fingerprint(r *http.Request, body []byte) (string, error) {
	p := parts{sha256.New()}
	p.add(r.URL.EscapedPath())
	p.add(r.URL.RawQuery)
	p.add(r.Header.Get("Content-Type"))
	p.add(string(body))
	if len(r.PostForm) > 0 { // it was parsed in front, and is no longer in the body
		p.add(r.PostForm.Encode())
	}
	if r.MultipartForm != nil {
		for _, name := range slices.Sorted(maps.Keys(r.MultipartForm.File)) {
			for _, file := range r.MultipartForm.File[name] {
				p.add(name)
				p.add(file.Filename)
				if err := p.addFile(file); err != nil {
					return "", err
				}
			}
		}
	}
	return hex.EncodeToString(p.Sum(nil)), nil
}

// parts digests several things, so that none runs into the next.
type parts struct{ hash.Hash }

func (p parts) length(n int64) { p.Write(binary.BigEndian.AppendUint64(nil, uint64(n))) } //nolint:gosec // it is not negative

func (p parts) add(part string) {
	p.length(int64(len(part)))
	_, _ = io.WriteString(p, part)
}

func (p parts) addFile(file *multipart.FileHeader) error {
	content, err := file.Open()
	if err != nil {
		return err
	}
	defer content.Close()
	p.length(file.Size)
	_, err = io.Copy(p, content)
	return err
}

// MarshalJSON is for the digest of the input in records.
func (r Request) MarshalJSON() ([]byte, error) { return json.Marshal(r.print) }

// read returns the body of r.
func read(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, *problem) {
	if r.Body == nil { // it did not come from a server
		return nil, nil
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
