package page_test

import (
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

var quotation = regexp.MustCompile("(?m)^<!-- quote: (\\w+) -->\n```go\n(?s:(.*?))```$")

// Each block of Go in docs/page.md is an example, or what it calls.
func TestDocs_QuoteExamples(t *testing.T) {
	t.Parallel()
	path := filepath.Join("..", "docs", "page.md")
	page, err := os.ReadFile(path)
	require.NoError(t, err)
	code := exampleCode(t)
	require.Len(t, quotation.FindAllString(string(page), -1), strings.Count(string(page), "```go\n"), "Go that nobody compiles")
	now := quotation.ReplaceAllStringFunc(string(page), func(block string) string {
		name := quotation.FindStringSubmatch(block)[1]
		require.Contains(t, code, name)
		return "<!-- quote: " + name + " -->\n```go\n" + code[name] + "\n```"
	})
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(now), 0o644))
		return
	}
	require.Equal(t, now, string(page), "it is not up to date; to write it anew: go test ./page -run TestDocs -update")
}

// exampleCode is what the examples do, and the functions that they call, by name.
func exampleCode(t *testing.T) map[string]string {
	t.Helper()
	source, err := os.ReadFile("example_test.go")
	require.NoError(t, err)
	file, err := parser.ParseFile(token.NewFileSet(), "", source, parser.SkipObjectResolution)
	require.NoError(t, err)
	code := map[string]string{}
	for _, decl := range file.Decls {
		f, is := decl.(*ast.FuncDecl)
		switch {
		case !is:
		case strings.HasPrefix(f.Name.Name, "Example"):
			body, _, _ := strings.Cut(string(source[f.Body.Lbrace:f.Body.Rbrace-1]), "\t// Output:")
			code[f.Name.Name] = strings.TrimSpace(strings.ReplaceAll(body, "\n\t", "\n"))
		default:
			code[f.Name.Name] = string(source[f.Pos()-1 : f.End()-1])
		}
	}
	return code
}
