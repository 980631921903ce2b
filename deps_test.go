package atmostonce_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A program that guards functions compiles nothing of Temporal's, and no client of a
// store that it does not use.
func TestPackage_NeedsNoTemporal(t *testing.T) {
	t.Parallel()
	deps, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	require.NoError(t, err)
	var beyond []string
	for path := range strings.Lines(string(deps)) {
		path = strings.TrimSpace(path)
		if domain, _, _ := strings.Cut(path, "/"); strings.Contains(domain, ".") && !strings.HasPrefix(path, "github.com/atmostonce/atmostonce") {
			beyond = append(beyond, path)
		}
	}
	require.NotEmpty(t, beyond)
	for _, path := range beyond {
		require.Contains(t, []string{"github.com/cenkalti/backoff/v5", "github.com/gofrs/flock", "golang.org/x/sys/unix", "golang.org/x/sys/windows"}, path)
	}
}
