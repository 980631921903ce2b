package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"

	"go.temporal.io/sdk/converter"
	"golang.org/x/term"

	"github.com/atmostonce/atmostonce/internal/ops"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

// Guard decides about records. An interceptor.Guard and an atmostonce.Guard are such.
type Guard = ops.Resolver

// Options are what a program of your own brings. The zero value is the plain tool, which
// opens the store that it is told by URL.
type Options struct {
	// Guard decides. Defaults to one without marks and with Temporal's default
	// converters, or those of a codec endpoint, which remembers a decision for 30 days.
	Guard Guard
	// Store is the guard's. Required with a Guard.
	Store store.Store
	// DataConverter shows results with --decode. Defaults to Temporal's default, or the
	// codec endpoint's.
	DataConverter converter.DataConverter
}

// The exit codes.
const (
	codeError    = 1
	codeUsage    = 2
	codeNotFound = 3
	codeMoved    = 4
)

// Main runs the command line of the process, and exits: with 0 if all is well, 1 after
// an error, 2 if the command line is wrong, 3 if there is no such record, and 4 if the
// record has changed since it was shown.
func Main(o Options) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := o.run(ctx, os.Args[1:], process())
	stop()
	os.Exit(code)
}

// surroundings are what a run gets from its process.
type surroundings struct {
	in       io.Reader
	out, err io.Writer
	env      func(string) string
	asks     bool // in is a terminal
	colors   bool // out is a terminal
}

func process() surroundings {
	return surroundings{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, env: os.Getenv,
		asks: term.IsTerminal(int(os.Stdin.Fd())), colors: term.IsTerminal(int(os.Stdout.Fd())),
	}
}

// run runs a command line, and returns the exit code.
func (o Options) run(ctx context.Context, args []string, s surroundings) int {
	t := &tool{options: o, surroundings: s}
	defer t.close()
	root := newRoot(t)
	root.SetArgs(args)
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case !t.begun && !errors.As(err, new(coded)):
		err = usage(err)
	}
	t.complain(err)
	return codeOf(err)
}

// coded is an error with an exit code of its own.
type coded struct {
	error
	code int
}

func (e coded) Unwrap() error { return e.error }

// usage says that the command line is wrong.
func usage(err error) error { return coded{err, codeUsage} }

func codeOf(err error) int {
	e := coded{}
	switch {
	case errors.As(err, &e):
		return e.code
	case errors.Is(err, resolve.ErrNotFound):
		return codeNotFound
	case errors.Is(err, store.ErrMoved):
		return codeMoved
	case errors.Is(err, resolve.ErrDigest), errors.Is(err, resolve.ErrAmbiguous):
		return codeUsage
	}
	return codeError
}
