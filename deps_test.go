package atmostonce_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// dependencies returns the packages of other modules that a program with pkg links.
func dependencies(t *testing.T, pkg string) (beyond []string) {
	t.Helper()
	deps, err := exec.CommandContext(t.Context(), "go", "list", "-deps", pkg).Output()
	require.NoError(t, err)
	for path := range strings.Lines(string(deps)) {
		path = strings.TrimSpace(path)
		if domain, _, _ := strings.Cut(path, "/"); strings.Contains(domain, ".") && !strings.HasPrefix(path, "github.com/atmostonce/atmostonce") {
			beyond = append(beyond, path)
		}
	}
	require.NotEmpty(t, beyond)
	return beyond
}

// A program that guards functions compiles nothing of Temporal's, and no client of a
// store that it does not use.
func TestPackage_NeedsNoTemporal(t *testing.T) {
	t.Parallel()
	for _, pkg := range []string{".", "./httponce", "./page"} {
		for _, path := range dependencies(t, pkg) {
			require.Contains(t, []string{"github.com/cenkalti/backoff/v5", "github.com/gofrs/flock", "golang.org/x/sys/unix", "golang.org/x/sys/windows"}, path, pkg)
		}
	}
	for _, path := range dependencies(t, "./telemetry") {
		require.NotRegexp(t, "temporal|grpc|protobuf|redis", path, "spans are OpenTelemetry's alone")
	}
}
