package httponce_test

import (
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/httponce"
)

// A form that was parsed before is the payload, although the body is empty then.
func TestMiddleware_ComparesAFormThatWasParsedBefore(t *testing.T) {
	t.Parallel()
	multi := func(cents, file string) (body, contentType string) {
		var b strings.Builder
		w := multipart.NewWriter(&b)
		require.NoError(t, w.SetBoundary("always-the-same"))
		require.NoError(t, w.WriteField("cents", cents))
		part, err := w.CreateFormFile("scan", "scan.pdf")
		require.NoError(t, err)
		_, err = io.WriteString(part, file)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		return b.String(), w.FormDataContentType()
	}
	plain := func(cents, file string) (body, contentType string) {
		return "cents=" + cents + "&file=" + file, "application/x-www-form-urlencoded"
	}
	handler := func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.PostFormValue("cents")) }
	for name, encode := range map[string]func(string, string) (string, string){"plain": plain, "multipart": multi} {
		a := newBehind(t, httponce.Options{}, handler, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_ = r.FormValue("csrf")
				next.ServeHTTP(w, r)
			})
		})
		post := func(cents, file string) answer {
			body, contentType := encode(cents, file)
			return a.post(t, "k-1", body, set("Content-Type", contentType))
		}
		require.Equal(t, "1", post("1", "x").body, name)
		require.Equal(t, "true", post("1", "x").Header.Get("Idempotent-Replayed"), name)
		post("2", "x").requireProblem(t, http.StatusUnprocessableEntity, "key-reused")
		post("1", "y").requireProblem(t, http.StatusUnprocessableEntity, "key-reused")
		require.EqualValues(t, 1, a.runs.Load())
	}
}

// net/http removes the files of a form that it knows of: the handler's is a copy's.
func TestMiddleware_RemovesTheFilesOfTheHandlersForm(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	for _, panics := range []bool{false, true} {
		a := newBehind(t, httponce.Options{MaxRequest: 20 << 20}, func(w http.ResponseWriter, r *http.Request) {
			if err := r.ParseMultipartForm(0); err != nil { // nothing of it in memory
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			files, err := os.ReadDir(os.TempDir())
			fmt.Fprint(w, len(files), err)
			if panics {
				panic(http.ErrAbortHandler)
			}
		}, func(next http.Handler) http.Handler { return next })
		var b strings.Builder
		w := multipart.NewWriter(&b)
		part, err := w.CreateFormFile("scan", "scan.pdf")
		require.NoError(t, err)
		_, err = io.WriteString(part, strings.Repeat("x", 1<<16))
		require.NoError(t, err)
		require.NoError(t, w.Close())
		got := <-a.attempt(a.request(t, "k-1", b.String(), set("Content-Type", w.FormDataContentType())))
		if panics {
			require.Error(t, got.err)
		} else {
			require.Equal(t, "1 <nil>", got.body, "it was a file")
		}
		files, err := os.ReadDir(os.TempDir())
		require.NoError(t, err)
		require.Empty(t, files)
	}
}
