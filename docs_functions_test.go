package atmostonce_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each block of Go in docs/functions.md is the code that its comment names.
func TestFunctions_QuotesCodeThatRuns(t *testing.T) {
	t.Parallel()
	code := map[string]string{}
	for _, path := range []string{"example_func_test.go", "example_codec_test.go"} {
		declarations(t, path, code)
	}
	quotation := regexp.MustCompile("(?m)^<!-- quote: ([^>]+) -->\n```go\n(?s:.*?)```$")
	requirePage(t, filepath.Join("docs", "functions.md"), func(page string) string {
		require.Len(t, quotation.FindAllString(page, -1), strings.Count(page, "```go\n"), "Go that nobody compiles")
		return quotation.ReplaceAllStringFunc(page, func(block string) string {
			names := quotation.FindStringSubmatch(block)[1]
			var parts []string
			for _, name := range strings.Fields(names) {
				require.Contains(t, code, name)
				parts = append(parts, code[name])
			}
			return "<!-- quote: " + names + " -->\n```go\n" + strings.Join(parts, "\n\n") + "\n```"
		})
	})
}

// Each test that the page names is there to be run.
func TestFunctions_NamesTestsThatAreThere(t *testing.T) {
	t.Parallel()
	page := contentOf(t, filepath.Join("docs", "functions.md"))
	named := regexp.MustCompile("`go test (\\S+) -run ([A-Za-z_]+)").FindAllStringSubmatch(page, -1)
	require.NotEmpty(t, named)
	for _, n := range named {
		files, err := filepath.Glob(filepath.Join(n[1], "*_test.go"))
		require.NoError(t, err)
		there := regexp.MustCompile(`(?m)^func Test\w*` + strings.TrimPrefix(n[2], "Test"))
		require.True(t, slices.ContainsFunc(files, func(path string) bool { return there.MatchString(contentOf(t, path)) }), n[2])
	}
}

// declarations adds what the file declares, by name: of an example, what it does and
// what it prints.
func declarations(t *testing.T, path string, code map[string]string) {
	t.Helper()
	text, set := contentOf(t, path), token.NewFileSet()
	file, err := parser.ParseFile(set, path, text, parser.ParseComments)
	require.NoError(t, err)
	between := func(doc *ast.CommentGroup, from, to token.Pos) string {
		if doc != nil {
			from = doc.Pos()
		}
		return text[set.Position(from).Offset:set.Position(to).Offset]
	}
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			name := d.Name.Name
			if d.Recv != nil {
				name = strings.TrimPrefix(between(nil, d.Recv.List[0].Type.Pos(), d.Recv.List[0].Type.End()), "*") + "." + name
			}
			code[name] = between(d.Doc, d.Pos(), d.End())
			if strings.HasPrefix(name, "Example") {
				code[name] = strings.TrimSpace(strings.ReplaceAll(between(nil, d.Body.Lbrace+1, d.Body.Rbrace), "\n\t", "\n"))
			}
		case *ast.GenDecl:
			switch spec := d.Specs[0].(type) {
			case *ast.TypeSpec:
				code[spec.Name.Name] = between(d.Doc, d.Pos(), d.End())
			case *ast.ValueSpec:
				code[spec.Names[0].Name] = between(d.Doc, d.Pos(), d.End())
			}
		}
	}
}
