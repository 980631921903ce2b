package redisstore_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A program links a Redis client only if it imports this package itself.
func TestRedis_IsLinkedByNoOtherPackage(t *testing.T) {
	t.Parallel()
	const module = "github.com/atmostonce/atmostonce"
	out, err := exec.Command("go", "list", "-f", "{{.ImportPath}}: {{.Deps}}", module+"/...").Output()
	require.NoError(t, err)
	seen := 0
	for line := range strings.Lines(string(out)) {
		name, deps, _ := strings.Cut(line, ": ")
		if seen++; name == module+"/store/redisstore" {
			require.Contains(t, deps, "redis/go-redis")
			continue
		}
		require.NotContains(t, deps, "redis/go-redis", name)
		require.NotContains(t, deps, "store/redisstore", name)
	}
	require.Greater(t, seen, 6, "%s", out)
}
