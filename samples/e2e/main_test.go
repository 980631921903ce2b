package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/atmostonce/atmostonce/samples/internal/devserver"
)

// server is shared by all tests; each has a task queue of its own.
var server *devserver.Server

func TestMain(m *testing.M) {
	if role := os.Getenv(doomedVariable); role != "" {
		fmt.Fprintln(os.Stderr, beDoomed(role))
		os.Exit(1)
	}
	flag.Parse()
	// The tests wait most of the time: more of them fit than there are cores.
	if parallel := flag.Lookup("test.parallel"); parallel.Value.String() == parallel.DefValue {
		if err := parallel.Value.Set("8"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	server, err = devserver.Start(context.Background(), devserver.Options{Progress: os.Stderr})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer server.Stop()
	defer closePostgres()
	return m.Run()
}
