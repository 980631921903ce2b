package interceptor_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// exported returns the exported names of a package, methods and fields left out.
func exported(t *testing.T, path string) map[string]bool {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", path).Output()
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(string(bytes.TrimSpace(dir)), "*.go"))
	require.NoError(t, err)
	names := map[string]bool{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				names[d.Name.Name] = names[d.Name.Name] || d.Recv == nil
			case *ast.GenDecl:
				for _, s := range d.Specs {
					switch s := s.(type) {
					case *ast.TypeSpec:
						names[s.Name.Name] = true
					case *ast.ValueSpec:
						for _, n := range s.Names {
							names[n.Name] = true
						}
					}
				}
			}
		}
	}
	for name, found := range names {
		if !found || !ast.IsExported(name) {
			delete(names, name)
		}
	}
	require.NotEmpty(t, names)
	return names
}

// A program that imports the SDK's package beside ours of the same name must not
// mistake one name for the other.
func TestNames_EqualNoneOfTheSDK(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"interceptor", "activity"} {
		theirs := exported(t, "go.temporal.io/sdk/"+name)
		for ours := range exported(t, "github.com/atmostonce/atmostonce/"+name) {
			require.NotContains(t, theirs, ours, name)
		}
	}
}

// A word means one thing in the whole module: package activity repeats those of once.
func TestNames_StandInOnePackage(t *testing.T) {
	t.Parallel()
	shared := map[string]string{
		"New": "", "Options": "", "Store": "", // of the package that they stand in
		"Forever": "the same duration", "InDoubt": "the same state of affairs, as reason, notice and state",
	}
	const module = "github.com/atmostonce/atmostonce/"
	in := map[string]string{}
	for _, path := range []string{"keys", "store", "store/redisstore", "store/sqlstore", "once", "observe", "resolve", "activity", "interceptor", "telemetry", "httponce"} {
		for name := range exported(t, module+path) {
			other, again := in[name]
			_, known := shared[name]
			if again && !known && !(other == "once" && path == "activity") {
				t.Errorf("%s stands in %s and in %s", name, other, path)
			}
			in[name] = path
		}
	}
}

// Another door to the engine, for programs without Temporal, must not link it.
func TestEngine_LinksNothingOfTemporal(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "../internal/engine", "../once", "../observe", "../resolve", "../store", "../keys", "../httponce").Output()
	require.NoError(t, err)
	for _, path := range strings.Fields(string(out)) {
		require.NotContains(t, path, "temporal")
		require.NotContains(t, path, "google.golang.org")
	}
}
