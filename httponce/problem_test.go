package httponce

import (
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/once"
)

var update = flag.Bool("update", false, "write what docs/http.md quotes, instead of comparing it")

// quotation is a fenced block below a comment with its name.
var quotation = regexp.MustCompile("(?m)^<!-- quote: ([^>]+) -->\n```(\\w+)\n(?s:(.*?))```$")

// The page quotes the examples, and each problem under a heading that its type links to.
func TestDocs_QuoteExamplesAndProblems(t *testing.T) {
	t.Parallel()
	path := filepath.Join("..", "docs", "http.md")
	page, err := os.ReadFile(path)
	require.NoError(t, err)
	texts := exampleCode(t)
	for fragment, body := range problemBodies(t) {
		texts[fragment] = body
		require.Contains(t, string(page), "\n### "+fragment+"\n\n<!-- quote: "+fragment+" -->")
	}
	quoted := 0
	now := quotation.ReplaceAllStringFunc(string(page), func(block string) string {
		m := quotation.FindStringSubmatch(block)
		require.Contains(t, texts, m[1])
		quoted++
		return "<!-- quote: " + m[1] + " -->\n```" + m[2] + "\n" + texts[m[1]] + "\n```"
	})
	require.Equal(t, strings.Count(string(page), "```go\n")+strings.Count(string(page), "```json\n"), quoted, "code that nobody compiles")
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(now), 0o644))
		return
	}
	require.Equal(t, now, string(page), "it is not up to date; to write it anew: go test ./httponce -run TestDocs -update")
}

// problemBodies are the bodies of all problems, by fragment.
func problemBodies(t *testing.T) map[string]string {
	t.Helper()
	source, err := os.ReadFile("problem.go")
	require.NoError(t, err)
	bodies := map[string]string{}
	for _, p := range []problem{
		keyMissing, keyMalformed, callerUnknown, requestTooLarge, bodyIncomplete, keyReused, inFlight, inDoubt, notKept, unavailable,
	} {
		w := httptest.NewRecorder()
		(&middleware{Options: Options{Documentation: page}}).answer(w, p, nil)
		require.Equal(t, p.status, w.Code)
		var d document
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &d))
		body, err := json.MarshalIndent(d, "", "  ")
		require.NoError(t, err)
		bodies[p.fragment] = string(body)
	}
	require.Len(t, bodies, strings.Count(string(source), ` = problem{"`))
	return bodies
}

func TestProblem_IsThatOfTheGuardsReason(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for want, all := range map[problem][]once.Refusal{
		keyReused: {{Reason: once.Mismatch, Since: now}},
		inFlight:  {{Reason: once.InFlight, Since: now}},
		inDoubt:   {{Reason: once.InDoubt, Since: now}},
		notKept:   {{Reason: once.OutcomeNotKept, Since: now}},
		unavailable: {
			{Reason: once.StoreDown}, {Reason: once.BadRecord}, {Reason: once.BadSetup}, {Reason: once.BadKey},
			{Reason: once.InFlight}, {Reason: once.InFlight, Since: now, Untouched: true}, // nobody holds the key
		},
	} {
		for _, r := range all {
			require.Equal(t, want, problemOf(&atmostonce.Error{Refusal: r}), r)
		}
	}
}

// exampleCode returns the functions of the examples by name: of an example, what it does.
func exampleCode(t *testing.T) map[string]string {
	t.Helper()
	source, err := os.ReadFile("example_test.go")
	require.NoError(t, err)
	file, err := parser.ParseFile(token.NewFileSet(), "", source, parser.ParseComments|parser.SkipObjectResolution)
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
