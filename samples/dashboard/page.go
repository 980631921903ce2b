package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"

	"github.com/atmostonce/atmostonce/telemetry/dashboard"
)

// panel is what the page shows of a panel of the Grafana dashboard.
type panel struct {
	Type        string `json:"type"`
	Title       string `json:"title"`
	Description string `json:"description"`
	GridPos     struct {
		W int `json:"w"`
	} `json:"gridPos"`
	FieldConfig struct {
		Defaults struct {
			Unit       string          `json:"unit"`
			Decimals   *int            `json:"decimals,omitempty"`
			NoValue    string          `json:"noValue"`
			Thresholds json.RawMessage `json:"thresholds,omitempty"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
	Targets []struct {
		Expr         string `json:"expr"`
		LegendFormat string `json:"legendFormat"`
	} `json:"targets"`
}

// panels returns those of the Grafana dashboard, for all namespaces, task queues
// and activity types.
func panels() (title string, all []panel, err error) {
	var page struct {
		Title  string  `json:"title"`
		Panels []panel `json:"panels"`
	}
	if err := json.Unmarshal(dashboard.Grafana, &page); err != nil {
		return "", nil, fmt.Errorf("the Grafana dashboard: %w", err)
	}
	// What selects everything is left out.
	var replacements []string
	for _, name := range []string{"namespace", "task_queue", "activity_type"} {
		all := name + `=~"$` + name + `"`
		replacements = append(replacements, all+",", "", all, "")
	}
	variables := strings.NewReplacer(append(replacements, "$__rate_interval", "30s", "$__range", "15m")...)
	for _, p := range page.Panels {
		for i := range p.Targets {
			p.Targets[i].Expr = strings.ReplaceAll(variables.Replace(p.Targets[i].Expr), "{}", "")
		}
		all = append(all, p)
	}
	return page.Title, all, nil
}

//go:embed page.html
var page []byte

// startPage serves the Grafana dashboard as a page of the sample's own, for those
// who have no Grafana at hand.
func (s *stack) startPage(ctx context.Context, _ io.Writer) error {
	title, all, err := panels()
	if err != nil {
		return err
	}
	content, err := json.Marshal(map[string]any{"title": title, "panels": all, "alerts": s.AlertsURL, "explore": s.MetricsURL + "/vmui/"})
	if err != nil {
		return err
	}
	metrics, err := url.Parse(s.MetricsURL)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(page) })
	mux.HandleFunc("GET /dashboard.json", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content) })
	mux.Handle("GET /api/v1/", httputil.NewSingleHostReverseProxy(metrics))
	address, stop, err := listen(ctx, mux)
	if err != nil {
		return err
	}
	s.onClose(stop)
	s.DashboardURL = "http://" + address + "/"
	return nil
}
