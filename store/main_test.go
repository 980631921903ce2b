package store_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"
)

// TestMain has the tests use directories in memory with -short, where the host has
// that: a disk takes most of their time.
func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		os.Exit(inMemory(m))
	}
	os.Exit(m.Run())
}

func inMemory(m *testing.M) int {
	if dir, err := os.MkdirTemp("/dev/shm", "atmostonce-"); err == nil {
		defer func() { _ = os.RemoveAll(dir) }()
		// Children that run as another user go through it.
		if err := errors.Join(os.Chmod(dir, 0o755), os.Setenv("TMPDIR", dir)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return m.Run()
}
