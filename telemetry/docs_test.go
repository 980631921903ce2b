package telemetry

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/observe"
)

var update = flag.Bool("update", false, "write what docs/telemetry.md takes from the code, instead of comparing it")

var page = filepath.Join("..", "docs", "telemetry.md")

func TestDocs_AreWhatTheCodeSays(t *testing.T) {
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	now := string(text)
	for name, table := range map[string]string{"metrics": metricsTable(), "notices": noticesTable(t)} {
		block := regexp.MustCompile(`(?s)<!-- generated: ` + name + ` -->\n.*?<!-- end -->`)
		require.Regexp(t, block, now)
		now = block.ReplaceAllLiteralString(now, "<!-- generated: "+name+" -->\n"+table+"<!-- end -->")
	}
	for _, name := range []string{"ExampleNewOTel", "Example_inDoubt"} {
		code := regexp.MustCompile("(?s)<!-- quote: " + name + " -->\n```go\n.*?```")
		require.Regexp(t, code, now)
		now = code.ReplaceAllLiteralString(now, "<!-- quote: "+name+" -->\n```go\n"+example(t, name)+"```")
	}
	require.Equal(t, 2, strings.Count(now, "```go"), "Go that nobody compiles")
	if *update {
		require.NoError(t, os.WriteFile(page, []byte(now), 0o644))
		return
	}
	require.Equal(t, string(text), now, "%s is not up to date; to write it anew: go test ./telemetry -run TestDocs -update", page)
}

func metricsTable() string {
	var b strings.Builder
	b.WriteString("| metric | in Prometheus | what | kind | labels |\n|---|---|---|---|---|\n")
	values := map[string][]string{}
	var names []string
	for _, m := range observe.Metrics() {
		prometheus := strings.ReplaceAll(m.Name, ".", "_")
		if m.Unit == "s" {
			prometheus += "_seconds"
		}
		unit := "gauge, `" + m.Unit + "`"
		switch m.Kind {
		case observe.Counter:
			prometheus += "_total"
			unit = "counter, `" + m.Unit + "`"
		case observe.Histogram:
			unit = "histogram, s, " + bounds(m.Buckets)
		}
		var labels []string
		for _, l := range m.Labels {
			labels = append(labels, "`"+l.Name+"`")
			key := "`" + l.Name + "`"
			if l.Name == "error.type" && m.Name == "atmostonce.store.operation.duration" {
				key += " of the store"
			}
			if l.Values != nil && values[key] == nil {
				values[key] = l.Values
				names = append(names, key)
			}
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s | %s |\n", m.Name, prometheus, m.Description, unit, strings.Join(labels, ", "))
	}
	b.WriteString("\n| label | values |\n|---|---|\n")
	for _, name := range names {
		fmt.Fprintf(&b, "| %s | `%s` |\n", name, strings.Join(values[name], "` `"))
	}
	return b.String()
}

func bounds(all []float64) string {
	var texts []string
	for _, b := range all {
		texts = append(texts, strconv.FormatFloat(b, 'g', -1, 64))
	}
	return strings.Join(texts, " ")
}

// noticesTable takes what a notice means from the comment on its constant.
func noticesTable(t *testing.T) string {
	t.Helper()
	meaning := comments(t, filepath.Join("..", "observe", "notice.go"))
	meaning["in_doubt"] = "a call ended in doubt, and no policy decides"
	var b strings.Builder
	b.WriteString("| notice | it means | warning: what to do | log event |\n|---|---|---|---|\n")
	for _, notice := range append([]observe.Notice{observe.InDoubt}, observe.Notices()...) {
		require.NotEmpty(t, meaning[string(notice)], "%s has no comment", notice)
		event := ""
		if e, ok := logEvents[notice]; ok {
			event = fmt.Sprintf("`%s` %v", e.name, e.severity)
		}
		name := "`" + string(notice) + "`"
		if notice == observe.InDoubt {
			name += " (no notice: counted in `atmostonce.calls`)"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", name, meaning[string(notice)], observe.Remedy(notice), event)
	}
	return b.String()
}

// comments returns the comments behind the string constants of a file, by value.
func comments(t *testing.T, path string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for value, spec := range constants(t, path) {
		if spec.Comment != nil {
			found[value] = strings.TrimSpace(spec.Comment.Text())
		}
	}
	return found
}

// constants returns the string constants of a file, by value.
func constants(t *testing.T, path string) map[string]*ast.ValueSpec {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
	require.NoError(t, err)
	found := map[string]*ast.ValueSpec{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		ast.Inspect(spec.Values[0], func(n ast.Node) bool {
			if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
				value, err := strconv.Unquote(l.Value)
				require.NoError(t, err)
				found[value] = spec
			}
			return true
		})
		return true
	})
	return found
}

// example returns the body of one of the package's examples.
func example(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("example_test.go")
	require.NoError(t, err)
	_, body, found := strings.Cut(string(text), "func "+name+"() {\n")
	require.True(t, found)
	body, _, _ = strings.Cut(body, "\n}\n")
	return strings.ReplaceAll("\n"+body, "\n\t", "\n")[1:] + "\n"
}

func TestDocs_NameEveryAttribute(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	_, table, found := strings.Cut(string(text), "| attribute | of | |\n")
	require.True(t, found)
	table, _, _ = strings.Cut(table, "\n\n")
	var documented, ours []string
	for _, line := range strings.Split(table, "\n") {
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(strings.Split(line, "|")[1], -1) {
			documented = append(documented, m[1])
		}
	}
	for name := range constants(t, "span.go") {
		if name != traceparent {
			ours = append(ours, name)
		}
	}
	ours = append(ours, "error.type")
	slices.Sort(documented)
	slices.Sort(ours)
	require.Equal(t, ours, documented)
}

func TestDocs_ExplainEveryAlert(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	rules, err := os.ReadFile(filepath.Join("dashboard", "alerts.yml"))
	require.NoError(t, err)
	alerts := regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(string(rules), -1)
	require.NotEmpty(t, alerts)
	for _, alert := range alerts {
		require.Contains(t, string(text), "\n### "+alert[1]+"\n")
	}
}
