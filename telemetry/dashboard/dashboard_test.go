package dashboard_test

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/telemetry/dashboard"
)

type board struct {
	UID           string
	SchemaVersion int
	Panels        []panel
	Templating    struct{ List []variable }
}

type panel struct {
	ID                       int
	Type, Title, Description string
	Datasource               source
	GridPos                  struct{ X, Y, W, H int }
	FieldConfig              struct {
		Defaults struct {
			Unit, NoValue string
			Thresholds    struct{ Steps []struct{ Color string } }
		}
	}
	Targets []struct {
		Expr, LegendFormat, RefID string
		Datasource                source
	}
}

type variable struct{ Name, Type, Definition, AllValue string }

type source struct{ Type, UID string }

func read(t *testing.T) board {
	t.Helper()
	var b board
	require.NoError(t, json.Unmarshal(dashboard.Grafana, &b))
	require.NotEmpty(t, b.Panels)
	return b
}

// data returns the panels that are no rows.
func (b board) data() (all []panel) {
	for _, p := range b.Panels {
		if p.Type != "row" {
			all = append(all, p)
		}
	}
	return all
}

func TestGrafana_SaysWhatItIs(t *testing.T) {
	t.Parallel()
	b := read(t)
	require.Equal(t, "atmostonce", b.UID)
	require.GreaterOrEqual(t, b.SchemaVersion, 41)
	ids := map[int]string{}
	for _, p := range b.Panels {
		require.NotEmpty(t, p.Title, "panel %d has no title", p.ID)
		require.Empty(t, ids[p.ID], "panel %q has the ID %d, too", p.Title, p.ID)
		ids[p.ID] = p.Title
	}
	for _, p := range b.data() {
		require.NotEmpty(t, p.Description, "panel %q has no description", p.Title)
		require.NotEmpty(t, p.FieldConfig.Defaults.Unit, "panel %q has no unit", p.Title)
		require.NotEmpty(t, p.Targets, "panel %q shows nothing", p.Title)
		require.Equal(t, source{"prometheus", "${datasource}"}, p.Datasource, "panel %q", p.Title)
		refs := map[string]bool{}
		for _, target := range p.Targets {
			if p.Type == "stat" {
				require.NotEmpty(t, p.FieldConfig.Defaults.Thresholds.Steps, "panel %q", p.Title)
				require.True(t, strings.Contains(target.Expr, "or vector(0)") || p.FieldConfig.Defaults.NoValue != "", "panel %q is empty without data", p.Title)
			}
			require.NotEmpty(t, target.LegendFormat, "panel %q has a series without a legend", p.Title)
			require.False(t, refs[target.RefID], "panel %q has two targets %s", p.Title, target.RefID)
			refs[target.RefID] = true
			require.Equal(t, p.Datasource, target.Datasource, "panel %q", p.Title)
		}
	}
}

func TestGrafana_PanelsDoNotOverlap(t *testing.T) {
	t.Parallel()
	taken := map[[2]int]string{}
	for _, p := range read(t).Panels {
		g := p.GridPos
		require.Positive(t, g.W, "panel %q", p.Title)
		require.Positive(t, g.H, "panel %q", p.Title)
		require.True(t, g.X >= 0 && g.Y >= 0 && g.X+g.W <= 24, "panel %q leaves the grid", p.Title)
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				require.Empty(t, taken[[2]int{x, y}], "panel %q overlaps this one at column %d, row %d", p.Title, x, y)
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
}

func TestGrafana_AsksForWhatTheGuardMeasures(t *testing.T) {
	t.Parallel()
	b := read(t)
	used := map[string]bool{}
	for _, p := range b.data() {
		for _, target := range p.Targets {
			legend := regexp.MustCompile(`{{(\w+)}}`).FindAllStringSubmatch(target.LegendFormat, -1)
			by := requireKnown(t, p.Title, filled(target.Expr), used)
			for _, label := range legend {
				require.Contains(t, by, label[1], "panel %q: its legend names a label that its series have not", p.Title)
			}
		}
	}
	for name := range ours() {
		require.True(t, used[name] || strings.HasSuffix(name, "_sum"), "no panel shows %s", name)
	}
	var rules []map[string]string
	for _, p := range b.data() {
		for _, target := range p.Targets {
			rules = append(rules, map[string]string{"record": "parsed", "expr": filled(target.Expr)})
		}
	}
	promtool(t, "check", "rules", written(t, map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}}))
}

// label_values(metric{…}, label)
var labelValues = regexp.MustCompile(`^label_values\((.+), *(\w+)\)$`)

func TestGrafana_DefinesItsVariables(t *testing.T) {
	t.Parallel()
	b := read(t)
	defined := []string{"__rate_interval", "__range", "__all"} // Grafana's own
	for _, v := range b.Templating.List {
		defined = append(defined, v.Name)
		if v.Type == "datasource" {
			continue
		}
		require.Equal(t, ".*", v.AllValue, "variable %s: All must not leave out series without the label", v.Name)
		parts := labelValues.FindStringSubmatch(v.Definition)
		require.NotNil(t, parts, "variable %s: %s", v.Name, v.Definition)
		requireKnown(t, "variable "+v.Name, filled("sum by ("+parts[2]+") ("+parts[1]+")"), map[string]bool{})
		require.Equal(t, v.Name, parts[2])
	}
	for _, name := range variables.FindAllStringSubmatch(string(dashboard.Grafana), -1) {
		require.Contains(t, defined, name[1])
	}
}

var variables = regexp.MustCompile(`\$\{?(\w*[a-z]\w*)`)

// filled is expr as Grafana sends it, with everything selected.
func filled(expr string) string {
	expr = strings.NewReplacer("$__rate_interval", "5m", "$__range", "1h").Replace(expr)
	return variables.ReplaceAllString(expr, ".*")
}

// TestGrafana_NumbersSayWhatHappened evaluates the panels that show one number.
func TestGrafana_NumbersSayWhatHappened(t *testing.T) {
	t.Parallel()
	const (
		bypassed = "Attempts that bypassed the guard"
		call     = `atmostonce_calls_total{namespace="n",task_queue="q",activity_type="A",atmostonce_outcome="failed",`
		notice   = `atmostonce_notices_total{namespace="n",task_queue="q",activity_type="A",atmostonce_notice=`
		record   = `atmostonce_records{namespace="n",activity_type="A",atmostonce_state=`
		age      = `atmostonce_record_age_seconds{namespace="n",activity_type="A",atmostonce_state=`
		conflict = notice + `"conflict"}`
		store    = `atmostonce_store_operation_duration_seconds_count{namespace="n",atmostonce_store_type="redis",atmostonce_store_operation="acquire"`
		ran      = `temporal_activity_execution_latency_seconds_count{namespace="n",task_queue="q",workflow_type="W",activity_type=`
	)
	type values = map[string]string // by series
	for _, c := range []struct {
		name   string
		series values
		shown  map[string]float64 // by title; the others show 0
	}{
		{"nothing is known", values{"up": "1x60"}, nil},
		{"nothing happened, through Temporal", values{call + `error_type="in_doubt"}`: "0x60", conflict: "0x60", store + `,error_type="none"}`: "5x60"}, nil},
		{"nothing happened, through instruments", values{call + `error_type="in_doubt"}`: "0x60", conflict: "0x60", store + `}`: "0+5x60", ran + `"A"}`: "3x60"}, nil},
		{"an activity without the guard", values{ran + `"B"}`: "0+60x60"}, nil},
		{"a doubt that the policy decides", values{call + `error_type="settling"}`: "0+1x60"}, nil},
		{"a doubt", values{call + `error_type="in_doubt"}`: "0x50 2x9"}, map[string]float64{"Calls held in doubt, last 15 minutes": 2, "Refused per minute": 0}},
		{"a call that is held", values{call + `error_type="in_doubt"}`: "0+2x60"}, map[string]float64{"Calls held in doubt, last 15 minutes": 30, "Refused per minute": 2}},
		{"calls that are not run again", values{`atmostonce_calls_total{namespace="n",atmostonce_outcome="duplicate"}`: "0x30 5x29"}, map[string]float64{"Duplicates not run again": 5}},
		{"records, as two workers count them, and a third cannot", values{
			record + `"in_doubt",instance="a"}`: "3x60", record + `"in_doubt",instance="b"}`: "3x60", record + `"in_doubt",instance="c"}`: "1x30 NaN NaN stale",
			record + `"running",instance="a"}`: "7x60", record + `"pending",instance="a"}`: "2x60",
			age + `"in_doubt",instance="a"}`: "0+60x60", age + `"in_doubt",instance="b"}`: "0+59x60", age + `"running",instance="a"}`: "0+600x60",
			`atmostonce_records{namespace="n",activity_type="B",atmostonce_state="in_doubt"}`: "2x60",
		}, map[string]float64{"In doubt": 5, "Oldest doubt": 3600, "Running": 7, "Pending": 2}},
		{"records that are resolved", values{
			record + `"in_doubt"}`: "3x30 0x29", record + `"running"}`: "0x60", record + `"pending"}`: "0x60", age + `"in_doubt"}`: "0+60x30 0x29",
		}, nil},
		{"a doubt of the past", values{call + `error_type="in_doubt"}`: "0x30 2x29"}, nil},
		{"a conflict", values{conflict: "0x30 1x29"}, map[string]float64{"Evidence of two executions": 1}},
		{"lost records", values{notice + `"store_forgot"}`: "0x30 1x29", notice + `"store_unsafe"}`: "0x30 1x29"}, map[string]float64{"Records lost, or at risk": 2}},
		{"lost leases", values{notice + `"lease_lost"}`: "0x30 1x29", notice + `"settle_failed"}`: "0x30 2x29"}, map[string]float64{"Leases or outcomes lost": 3}},
		{"a store that fails", values{store + `}`: "0+75x60", store + `,error_type="timeout"}`: "0+25x60"}, map[string]float64{"Store calls that failed, last 5 minutes": .25}},
		{"a store that fails, through Temporal", values{store + `,error_type="none"}`: "0+75x60", store + `,error_type="timeout"}`: "0+25x60"}, map[string]float64{"Store calls that failed, last 5 minutes": .25}},
		{"a worker of four without the guard", values{call + `error_type="in_flight"}`: "0+45x60", ran + `"A"}`: "0+60x60"}, map[string]float64{bypassed: .25}},
		{"no worker with the guard any more", values{call + `error_type="in_flight"}`: "0+45x30", ran + `"A"}`: "0+60x60"}, map[string]float64{bypassed: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var series, tests []any
			for name, v := range c.series {
				series = append(series, map[string]string{"series": name, "values": v})
			}
			for _, p := range read(t).data() {
				if p.Type == "stat" {
					samples := []any{map[string]any{"labels": "{}", "value": c.shown[p.Title]}}
					if p.Title == bypassed && !slices.ContainsFunc(slices.Collect(maps.Keys(c.series)), func(s string) bool { return strings.HasPrefix(s, "temporal_") }) {
						samples = []any{} // of Temporal's own metrics nothing is known
					}
					if slices.Contains([]string{"In doubt", "Oldest doubt", "Running", "Pending"}, p.Title) && c.series[record+`"in_doubt"}`] == "" && c.series[record+`"in_doubt",instance="a"}`] == "" {
						samples = []any{} // nobody counts them
					}
					tests = append(tests, map[string]any{"expr": filled(p.Targets[0].Expr), "eval_time": "1h", "exp_samples": samples})
				}
			}
			require.NotEmpty(t, tests)
			promtool(t, "test", "rules", written(t, map[string]any{"tests": []any{
				map[string]any{"interval": "1m", "input_series": series, "promql_expr_test": tests},
			}}))
		})
	}
}
