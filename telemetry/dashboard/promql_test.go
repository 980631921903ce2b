package dashboard_test

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/observe"
)

func promtool(t *testing.T, args ...string) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs promtool")
	}
	path, err := exec.LookPath("promtool")
	require.NoError(t, err, "install prometheus (Debian: apt-get install prometheus)")
	out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	require.NoError(t, err, "promtool %s:\n%s", strings.Join(args, " "), out)
}

// written returns the name of a file that has v as YAML, of which JSON is a part.
func written(t *testing.T, v any) string {
	t.Helper()
	content, err := json.Marshal(v)
	require.NoError(t, err)
	name := filepath.Join(t.TempDir(), "rules.yml")
	require.NoError(t, os.WriteFile(name, content, 0o600))
	return name
}

// ours returns the labels of the guard's metrics under the names that Prometheus
// has for them.
func ours() map[string][]string {
	all := map[string][]string{}
	for _, m := range observe.Metrics() {
		var labels []string
		for _, label := range m.Labels {
			labels = append(labels, prometheus(label.Name))
		}
		name := prometheus(m.Name)
		if m.Unit == "s" {
			name += "_seconds"
		}
		switch m.Kind {
		case observe.Counter:
			all[name+"_total"] = labels
			continue
		case observe.Gauge:
			all[name] = labels
			continue
		}
		all[name+"_sum"], all[name+"_count"] = labels, labels
		all[name+"_bucket"] = append(slices.Clone(labels), "le")
	}
	return all
}

// temporals returns the same of those metrics of the SDK that are used here.
func temporals() map[string][]string {
	labels := []string{"namespace", "task_queue", "activity_type", "workflow_type"}
	return map[string][]string{
		"temporal_activity_execution_failed_total":                   labels,
		"temporal_activity_execution_latency_seconds_count":          labels,
		"temporal_activity_schedule_to_start_latency_seconds_bucket": append(slices.Clone(labels), "le"),
		"temporal_unregistered_activity_invocation_total":            labels,
	}
}

// valuesOf returns what a label of a metric can be; nil if anybody may choose it.
func valuesOf(metric, label string) []string {
	for _, m := range observe.Metrics() {
		if !strings.HasPrefix(metric, prometheus(m.Name)) {
			continue
		}
		for _, l := range m.Labels {
			if prometheus(l.Name) == label && l.Values != nil {
				return append(slices.Clone(l.Values), "", "none")
			}
		}
	}
	return nil
}

func prometheus(name string) string { return strings.ReplaceAll(name, ".", "_") }

var (
	grouping = regexp.MustCompile(`\b(?:by|on) *\(([^)]*)\)`)
	selector = regexp.MustCompile(`(\w+) *{([^}]*)}`)
	matcher  = regexp.MustCompile(`^(\w+)(=|!=|=~|!~)"([^"]*)"$`)
	bare     = regexp.MustCompile(`\b([a-zA-Z_]\w*)\b *(\()?`)
	operator = []string{"or", "and", "unless"}
)

// requireKnown asserts that every metric, label and value in expr exists, adds
// the metrics to used, and returns the labels by which the expression groups.
func requireKnown(t *testing.T, where, expr string, used map[string]bool) (by []string) {
	t.Helper()
	known := ours()
	maps.Copy(known, temporals())
	metrics := map[string]bool{}
	rest := grouping.ReplaceAllStringFunc(expr, func(s string) string {
		for _, label := range strings.Split(grouping.FindStringSubmatch(s)[1], ",") {
			by = append(by, strings.TrimSpace(label))
		}
		return ""
	})
	rest = selector.ReplaceAllStringFunc(rest, func(s string) string {
		parts := selector.FindStringSubmatch(s)
		require.Contains(t, known, parts[1], "%s: no such metric", where)
		for _, m := range strings.Split(parts[2], ",") {
			m := matcher.FindStringSubmatch(m)
			require.NotNil(t, m, "%s: %s", where, s)
			require.Contains(t, known[parts[1]], m[1], "%s: %s has no such label", where, parts[1])
			if m[3] == ".*" {
				continue
			}
			for _, value := range strings.Split(m[3], "|") {
				require.Contains(t, valuesOf(parts[1], m[1]), value, "%s: no such %s", where, m[1])
			}
		}
		return parts[1]
	})
	for _, word := range bare.FindAllStringSubmatch(rest, -1) {
		if word[2] == "" && !slices.Contains(operator, word[1]) {
			require.Contains(t, known, word[1], "%s: no such metric", where)
			metrics[word[1]] = true
		}
	}
	require.NotEmpty(t, metrics, where)
	for name := range metrics {
		for _, label := range by {
			require.Contains(t, known[name], label, "%s: %s has no such label", where, name)
		}
	}
	maps.Copy(used, metrics)
	return by
}
