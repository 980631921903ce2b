package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/atmostonce/atmostonce/telemetry/dashboard"
)

// panel is what both kinds of dashboard say of a panel.
type panel struct {
	Type        string `json:"type"`
	Title       string `json:"title"`
	Description string `json:"description"`
	GridPos     struct {
		W int `json:"w"`
	} `json:"gridPos"`
	FieldConfig struct {
		Defaults struct {
			Unit string `json:"unit"`
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
	// What selects everything is left out: the UI shows the expressions.
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

// units are Grafana's, as the other UI writes them behind a number.
var units = map[string]string{"cps": "/s", "cpm": "/min", "s": "s"}

// forVMUI returns the Grafana dashboard as VictoriaMetrics' own UI reads it.
func forVMUI() ([]byte, error) {
	type vmuiPanel struct {
		Title       string   `json:"title"`
		Description string   `json:"description"`
		Unit        string   `json:"unit"`
		Expr        []string `json:"expr"`
		Alias       []string `json:"alias"`
		ShowLegend  bool     `json:"showLegend"`
		Width       int      `json:"width"`
	}
	type vmuiRow struct {
		Title  string      `json:"title"`
		Panels []vmuiPanel `json:"panels"`
	}
	title, all, err := panels()
	if err != nil {
		return nil, err
	}
	// One row: the UI opens only the first.
	row := vmuiRow{Title: title}
	for _, p := range all {
		if len(p.Targets) == 0 {
			continue
		}
		v := vmuiPanel{Title: p.Title, Description: p.Description, Unit: units[p.FieldConfig.Defaults.Unit], ShowLegend: true, Width: max(4, p.GridPos.W/2)}
		for _, target := range p.Targets {
			v.Expr = append(v.Expr, target.Expr)
			v.Alias = append(v.Alias, target.LegendFormat)
		}
		row.Panels = append(row.Panels, v)
	}
	return json.MarshalIndent(map[string]any{"title": title, "rows": []vmuiRow{row}}, "", "  ")
}
