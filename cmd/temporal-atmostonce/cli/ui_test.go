package cli

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/keys"
)

// browse sends a request as a browser would, to the page at address.
func browse(t *testing.T, method, address, host string, form url.Values) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(form.Encode()))
	require.NoError(t, err)
	r.Host = host
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(text)
}

func TestUI_IsReadOnlyAndOfThisHost(t *testing.T) {
	t.Parallel()
	page := serving(t, nil, "ui", "--store", urlOf(killWorker(t)))
	require.Regexp(t, `^http://127\.0\.0\.1:[0-9]+/[A-Z0-9]{20,}/$`, page)
	at, err := url.Parse(page)
	require.NoError(t, err)
	code, text := browse(t, http.MethodGet, page, "", nil)
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, text, "order-3")
	require.Contains(t, text, "read-only")
	digest := keys.Downstream(killedBid("3").Key)
	code, _ = browse(t, http.MethodPost, page+digest, "", url.Values{"choice": {"failed"}})
	require.Equal(t, http.StatusForbidden, code)
	for host, want := range map[string]int{
		"localhost:" + at.Port(): 200, "[::1]:80": 200, "127.0.0.1": 200, "LOCALHOST": 200,
		"evil.example": 421, "evil.example:" + at.Port(): 421, "localhost.evil.example": 421, "127.0.0.1.evil.example": 421, "10.0.0.1": 421, "0.0.0.0": 421,
	} {
		code, text := browse(t, http.MethodGet, page, host, nil)
		require.Equal(t, want, code, host)
		require.Equal(t, want == 200, strings.Contains(text, "order-3"), host)
	}
	code, text = browse(t, http.MethodGet, "http://"+at.Host+"/", "", nil)
	require.Equal(t, http.StatusNotFound, code, "other users of this host do not know the secret")
	require.NotContains(t, text, "order")
}

func TestUI_DecidesAsTheOperator(t *testing.T) {
	t.Parallel()
	store, audit := urlOf(killWorker(t)), filepath.Join(t.TempDir(), "audit.jsonl")
	page := serving(t, nil, "ui", "--store", store, "--resolve", "--operator", "ann", "--audit", audit)
	address := page + keys.Downstream(killedBid("3").Key)
	form := filled(t, address)
	code, text := browse(t, http.MethodPost, address, "evil.example", form)
	require.Equal(t, http.StatusMisdirectedRequest, code, text)
	require.Contains(t, tooled(t, nil, "list", "--store", store).out, "6 in doubt")
	code, text = browse(t, http.MethodPost, address, "", form)
	require.Equal(t, http.StatusOK, code, text)
	require.Contains(t, tooled(t, nil, "show", digestOf("3"), "--store", store).out, "by ann: INC-812")
	log, err := os.ReadFile(audit)
	require.NoError(t, err)
	var entry map[string]any
	require.NoError(t, json.Unmarshal(log, &entry), "one line: %s", log)
	require.Subset(t, entry, map[string]any{"action": "resolve", "digest": digestOf("3"), "by": "ann", "why": "INC-812", "to": "failed"})
}

func TestUI_SaysWhatItHasRecordedAlthoughItsAuditLogIsFull(t *testing.T) {
	t.Parallel()
	store := urlOf(killWorker(t))
	page := serving(t, nil, "ui", "--store", store, "--resolve", "--operator", "ann", "--audit", "/dev/full")
	address := page + keys.Downstream(killedBid("3").Key)
	code, text := browse(t, http.MethodPost, address, "", filled(t, address))
	require.Equal(t, http.StatusOK, code, text)
	require.NotContains(t, text, "Nothing was recorded")
	require.Contains(t, tooled(t, nil, "show", digestOf("3"), "--store", store).out, "by ann: INC-812")
}

// filled is the form by which a call is ended with an error, as somebody fills it in.
func filled(t *testing.T, address string) url.Values {
	t.Helper()
	_, text := browse(t, http.MethodGet, address+"?decide=failed", "", nil)
	form := url.Values{"why": {"INC-812"}, "sure": {"yes"}, "error": {"card expired"}}
	for _, hidden := range regexp.MustCompile(`<input type="hidden" name="([a-z]+)" value="([^"]*)"`).FindAllStringSubmatch(text, -1) {
		form.Set(hidden[1], hidden[2])
	}
	return form
}
