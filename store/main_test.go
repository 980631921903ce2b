package store_test

import (
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
		if err := os.Setenv("TMPDIR", dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return m.Run()
}
