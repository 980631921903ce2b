package main

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/samples/internal/child"
)

// promServer is a real Prometheus that scrapes the sample and has the alert rules.
type promServer struct{ url string }

func startPrometheus(t *testing.T, s *stack) *promServer {
	t.Helper()
	binary, err := exec.LookPath("prometheus")
	require.NoError(t, err, "install Prometheus (Debian: apt-get install prometheus)")
	scrape, err := os.ReadFile(s.scrapeConfig())
	require.NoError(t, err)
	config := filepath.Join(s.Dir, "prometheus.yml")
	text := "global: {evaluation_interval: 1s}\nrule_files: ['" + s.rulesFile() + "']\n" + string(scrape)
	require.NoError(t, os.WriteFile(config, []byte(text), 0o600))
	port, err := child.FreePort()
	require.NoError(t, err)
	_, err = s.serve(t.Context(), "prometheus", port, binary, "--config.file="+config,
		"--storage.tsdb.path="+filepath.Join(s.Dir, "prometheus"), "--web.listen-address="+local(port), "--log.level=warn")
	require.NoError(t, err)
	return &promServer{"http://" + local(port)}
}

type sample struct {
	Metric map[string]string
	Value  float64
}

func (p *promServer) query(t *testing.T, expr string) (found []sample) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/api/v1/query?query="+url.QueryEscape(expr), nil)
	require.NoError(t, err)
	answer, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer answer.Body.Close()
	var body struct {
		Error string
		Data  struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	require.NoError(t, json.NewDecoder(answer.Body).Decode(&body))
	require.Equal(t, http.StatusOK, answer.StatusCode, "%s: %s", expr, body.Error)
	for _, r := range body.Data.Result {
		text, _ := r.Value[1].(string)
		value, err := strconv.ParseFloat(text, 64)
		require.NoError(t, err)
		found = append(found, sample{r.Metric, value})
	}
	return found
}

// await waits until an expression has a value.
func (p *promServer) await(t *testing.T, expr string) (found []sample) {
	t.Helper()
	require.Eventually(t, func() bool {
		found = p.query(t, expr)
		return len(found) > 0
	}, soon, 200*time.Millisecond, expr)
	return found
}
