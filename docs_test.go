// Package atmostonce_test holds the pages in this directory and in docs to what is there.
package atmostonce_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/telemetry"
)

var update = flag.Bool("update", false, "write what the pages take from the code, instead of comparing it")

// requirePage asserts that the page is as change returns it, which -update writes.
func requirePage(t *testing.T, path string, change func(page string) string) {
	t.Helper()
	page := contentOf(t, path)
	now := change(page)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(now), 0o644))
		return
	}
	require.Equal(t, now, page, "%s is not up to date; to write it anew: go test . -update", path)
}

func contentOf(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(content)
}

// The first block of README.md is a program: the example, as package main. The second
// is a function of another example.
func TestReadme_BeginsWithTheExample(t *testing.T) {
	t.Parallel()
	program := strings.NewReplacer("package atmostonce_test\n", "package main\n", "func Example() {", "func main() {").
		Replace(contentOf(t, "example_test.go"))
	block := regexp.MustCompile("(?s)<!-- quote: example_test.go -->\n```go\n.*?```")
	handler := regexp.MustCompile("(?s)<!-- quote: webhook -->\n```go\n.*?```")
	code := map[string]string{}
	declarations(t, "example_webhook_test.go", code)
	requirePage(t, "README.md", func(page string) string {
		require.Regexp(t, block, page)
		require.Regexp(t, handler, page)
		require.Equal(t, 2, strings.Count(page, "```go"), "Go that nobody compiles")
		page = block.ReplaceAllLiteralString(page, "<!-- quote: example_test.go -->\n```go\n"+program+"```")
		return handler.ReplaceAllLiteralString(page, "<!-- quote: webhook -->\n```go\n"+code["webhook"]+"\n```")
	})
}

func TestStability_ListsWhatTheCodeHas(t *testing.T) {
	t.Parallel()
	lists := map[string]string{
		"keys": keyForms(t), "record": recordFields(), "errors": errorTypes(t), "notices": notices(), "metrics": metrics(), "spans": spans(t),
	}
	requirePage(t, filepath.Join("docs", "stability.md"), func(page string) string {
		for name, list := range lists {
			block := regexp.MustCompile(`(?s)<!-- generated: ` + name + ` -->\n.*?<!-- end -->`)
			require.Regexp(t, block, page)
			page = block.ReplaceAllLiteralString(page, "<!-- generated: "+name+" -->\n"+list+"<!-- end -->")
		}
		return page
	})
}

// keyForms are the keys of one call under each scope.
func keyForms(t *testing.T) string {
	t.Helper()
	call := keys.Call{
		Namespace: "shop", WorkflowID: "order-7", RunID: "run-2", ActivityID: "5", Activity: "ChargeCard", OriginalRunID: "run-1", Occurrence: 1,
		Input: keys.Digest([]keys.Arg{{Encoding: "json/plain", Data: []byte(`{"OrderID":"7"}`)}}),
	}
	order := keys.FromCall(func(keys.Call) (string, error) { return "7", nil })
	var b strings.Builder
	b.WriteString("| scope | key |\n|---|---|\n")
	for _, c := range []struct {
		scope keys.Scope
		part  keys.Func
	}{{keys.PerWorkflow, keys.Hash()}, {keys.PerRun, keys.Hash()}, {keys.PerCall, keys.Hash()}, {keys.PerNamespace, order}} {
		key, err := keys.Make(c.scope, c.part, call)
		require.NoError(t, err)
		fmt.Fprintf(&b, "| `%v` | `%s` |\n", c.scope, key)
		if c.scope == keys.PerNamespace {
			fmt.Fprintf(&b, "| a step of that | `%s` |\n", keys.Step(key, "send mail"))
		}
	}
	return b.String()
}

// recordFields are the JSON fields of a record, and of what is in it.
func recordFields() string {
	var b strings.Builder
	b.WriteString("| of | fields |\n|---|---|\n")
	for _, of := range []struct {
		what  string
		value any
	}{{"the record", store.Record{}}, {"`info`", store.Info{}}, {"`holder`", store.Holder{}}, {"`outcome`, `kept`", store.Outcome{}}, {"`history`", store.Turn{}}} {
		var fields []string
		for _, f := range reflect.VisibleFields(reflect.TypeOf(of.value)) {
			if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "-" {
				fields = append(fields, name)
			}
		}
		fmt.Fprintf(&b, "| %s | `%s` |\n", of.what, strings.Join(fields, "` `"))
	}
	return b.String()
}

// errorTypes are the reasons; they are constants, so their source has them all.
func errorTypes(t *testing.T) string {
	t.Helper()
	var types []string
	source := contentOf(t, filepath.Join("once", "refusal.go"))
	for _, m := range regexp.MustCompile(`Reason = reasonPrefix \+ "(\w+)"`).FindAllStringSubmatch(source, -1) {
		types = append(types, "atmostonce."+m[1])
	}
	require.Contains(t, types, string(once.InDoubt))
	require.Len(t, types, strings.Count(source, " Reason = "))
	return line(types)
}

func notices() string {
	var names []string
	for _, n := range append(observe.Notices(), observe.InDoubt) {
		names = append(names, string(n))
	}
	return line(names)
}

func metrics() string {
	var b strings.Builder
	b.WriteString("| metric | labels |\n|---|---|\n")
	for _, m := range observe.Metrics() {
		var labels []string
		for _, l := range m.Labels {
			labels = append(labels, l.Name)
		}
		fmt.Fprintf(&b, "| `%s` | `%s` |\n", m.Name, strings.Join(labels, "` `"))
	}
	return b.String()
}

// spans are named in the documentation of package telemetry, whose tests see them.
func spans(t *testing.T) string {
	t.Helper()
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^//\s+(atmostonce\.\w+) \{type\}`).FindAllStringSubmatch(contentOf(t, filepath.Join("telemetry", "doc.go")), -1) {
		names = append(names, m[1]+" {activity type}")
	}
	require.Len(t, names, 4)
	return line(names) + "\nof the scope `" + telemetry.ScopeName + "`.\n"
}

func line(names []string) string { return "`" + strings.Join(names, "` `") + "`\n" }

// What a file on disk says is what the page says.
func TestStability_NamesTheVersionOfAFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := store.NewFile(dir, store.FileOptions{AnyFileSystem: true})
	require.NoError(t, err)
	_, err = s.Acquire(context.Background(), store.Bid{Key: "k", Owner: "n", Lease: store.TombstoneTTL, TTL: store.TombstoneTTL})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	lines := strings.Split(contentOf(t, filepath.Join(dir, "log", "00000001.log")), "\n")
	require.Contains(t, lines[1], " "+keys.Downstream("k")+" ")
	_, text, _ := strings.Cut(lines[1], "{")
	var record struct{ Version int }
	require.NoError(t, json.NewDecoder(strings.NewReader("{"+text)).Decode(&record))
	require.Contains(t, contentOf(t, filepath.Join("docs", "stability.md")), fmt.Sprintf("`version` %d;", record.Version))
}

// pages are all Markdown files, by path.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "samples/*.md"} {
		paths, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, path := range paths {
			all[path] = contentOf(t, path)
		}
	}
	return all
}

// anchor is what a heading is linked by.
func anchor(heading string) string {
	heading = strings.ReplaceAll(strings.ToLower(heading), " ", "-")
	return regexp.MustCompile(`[^\w-]`).ReplaceAllString(heading, "")
}

func TestPages_LinkToWhatIsThere(t *testing.T) {
	t.Parallel()
	all := pages(t)
	anchors := map[string][]string{}
	for path, page := range all {
		for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(page, -1) {
			anchors[path] = append(anchors[path], anchor(m[1]))
		}
	}
	for path, page := range all {
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(page, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			file, section, _ := strings.Cut(m[1], "#")
			target := path
			if file != "" {
				target = filepath.Join(filepath.Dir(path), file)
			}
			_, err := os.Stat(target)
			require.NoError(t, err, "%s links to %s", path, m[1])
			if section != "" {
				require.Contains(t, anchors[target], section, "%s links to %s", path, m[1])
			}
		}
	}
}

func TestPages_AreInTheIndex(t *testing.T) {
	t.Parallel()
	_, index, found := strings.Cut(contentOf(t, "README.md"), "\n## Documentation\n")
	require.True(t, found)
	for path := range pages(t) {
		if strings.HasPrefix(path, "docs/") {
			require.Contains(t, index, "]("+path+")")
		}
	}
}

var heading = regexp.MustCompile(`(?m)^## \[(.+?)\]`)

// On the way to a version, the changelog begins with what is unreleased; in it, with
// the version itself.
func TestVersion_IsThatOfTheChangelog(t *testing.T) {
	t.Parallel()
	newest := heading.FindStringSubmatch(contentOf(t, "CHANGELOG.md"))[1]
	version, coming := strings.CutSuffix(observe.Version, "-dev")
	require.Regexp(t, `^\d+\.\d+\.\d+$`, version)
	if coming {
		require.Equal(t, "Unreleased", newest)
		require.NotContains(t, contentOf(t, "CHANGELOG.md"), "## ["+version+"]", "it is released: raise observe.Version")
		return
	}
	require.Equal(t, version, newest)
}

func TestVersion_IsReportedToTemporal(t *testing.T) {
	t.Parallel()
	guard, err := interceptor.New(store.NewMemory(store.MemoryOptions{}), interceptor.Options{Activities: once.Mark(once.Policy{}, "ChargeCard")})
	require.NoError(t, err)
	require.Equal(t, observe.Version, guard.Version())
}

// Every public package shows how it is used.
func TestPackages_HaveExamples(t *testing.T) {
	t.Parallel()
	var without []string
	require.NoError(t, filepath.WalkDir(".", func(dir string, entry os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case !entry.IsDir():
			return nil
		case dir != "." && strings.HasPrefix(entry.Name(), "."), slices.Contains([]string{"samples", "bench", "databases", "tools", "docs", "internal", "testdata"}, entry.Name()):
			return filepath.SkipDir
		}
		sources, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			return err
		}
		public, shown := false, false
		for _, path := range sources {
			source, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			public = public || !strings.HasSuffix(path, "_test.go") && !bytes.Contains(source, []byte("\npackage main\n"))
			shown = shown || strings.HasSuffix(path, "_test.go") && bytes.Contains(source, []byte("\nfunc Example"))
		}
		if public && !shown {
			without = append(without, dir)
		}
		return nil
	}))
	require.Empty(t, without)
}
