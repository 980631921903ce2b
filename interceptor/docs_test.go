package interceptor_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write what the pages in docs quote, instead of comparing it")

// quotation is a fenced block below a comment with its name.
var quotation = regexp.MustCompile("(?m)^<!-- quote: ([^>]+) -->\n```(\\w+)\n(?s:(.*?))```$")

// requireQuoted asserts that the page quotes all of these texts as they are. It
// leaves alone what other tests answer for.
func requireQuoted(t *testing.T, name string, texts map[string]string) {
	t.Helper()
	path := filepath.Join("..", "docs", name)
	page, err := os.ReadFile(path)
	require.NoError(t, err)
	quoted := map[string]bool{}
	now := quotation.ReplaceAllStringFunc(string(page), func(block string) string {
		m := quotation.FindStringSubmatch(block)
		text, ours := texts[m[1]]
		if !ours {
			return block
		}
		quoted[m[1]] = true
		return fmt.Sprintf("<!-- quote: %s -->\n```%s\n%s\n```", m[1], m[2], text)
	})
	for title := range texts {
		require.True(t, quoted[title], "docs/%s does not quote %q", name, title)
	}
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(now), 0o644))
		return
	}
	require.Equal(t, string(page), now, "docs/%s is not up to date; to write it anew: go test ./interceptor -run TestDocs -update", name)
}

// requireQuotedCode asserts that every block of Go on the page is the code of
// the functions and types of this package's examples that its comment names.
func requireQuotedCode(t *testing.T, name string) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "docs", name))
	require.NoError(t, err)
	code, texts := exampleCode(t), map[string]string{}
	for _, block := range quotation.FindAllStringSubmatch(string(page), -1) {
		if block[2] != "go" {
			continue
		}
		var parts []string
		for _, what := range strings.Fields(block[1]) {
			require.Contains(t, code, what)
			parts = append(parts, code[what])
		}
		texts[block[1]] = strings.Join(parts, "\n\n")
	}
	require.Len(t, texts, strings.Count(string(page), "```go\n"), "docs/%s has Go that nobody compiles", name)
	requireQuoted(t, name, texts)
}

// exampleCode returns the functions and types of the example files by name: of
// an example, only what it does.
func exampleCode(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("example_*test.go")
	require.NoError(t, err)
	code := map[string]string{}
	for _, path := range files {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, text, parser.ParseComments)
		require.NoError(t, err)
		between := func(from, to token.Pos) string {
			return string(text[set.Position(from).Offset:set.Position(to).Offset])
		}
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				from, name := d.Pos(), d.Name.Name
				if d.Doc != nil {
					from = d.Doc.Pos()
				}
				if d.Recv != nil {
					of := d.Recv.List[0].Type
					name = strings.TrimPrefix(between(of.Pos(), of.End()), "*") + "." + name
				}
				code[name] = between(from, d.End())
				if strings.HasPrefix(name, "Example") {
					body, _, _ := strings.Cut(between(d.Body.Lbrace+1, d.Body.Rbrace), "\t// Output:")
					code[name] = strings.TrimSpace(strings.ReplaceAll(body, "\n\t", "\n"))
				}
			case *ast.GenDecl:
				spec, isType := d.Specs[0].(*ast.TypeSpec)
				if !isType {
					continue
				}
				from := d.Pos()
				if d.Doc != nil {
					from = d.Doc.Pos()
				}
				code[spec.Name.Name] = between(from, d.End())
			}
		}
	}
	return code
}

func TestDocs_QuoteCodeThatRuns(t *testing.T) {
	for _, page := range []string{"errors.md", "testing.md", "adoption.md", "failures.md", "steps.md"} {
		requireQuotedCode(t, page)
	}
}
