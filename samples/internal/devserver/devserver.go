// Package devserver finds or starts a Temporal server for demos and tests.
package devserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"github.com/atmostonce/atmostonce/samples/internal/child"
	"github.com/atmostonce/atmostonce/samples/internal/tool"
)

// Options says how to start a server. The zero value is one without a web UI
// that logs nowhere.
type Options struct {
	UI       bool      // with Temporal's web UI, on a port of its own
	LogFile  string    // of the server's own output
	Progress io.Writer // gets the progress when the CLI has to be built first

	Port     int    // of the front end; a free one by default
	Database string // file in which everything outlives the server; by default nothing does
}

// Server is a Temporal server. The caller ends it by Stop.
type Server struct {
	Address string // host and port of the front end
	UI      string // URL of the web UI; empty if there is none, or not ours
	Version string // of the server

	process *child.Process // nil if it was running already
	log     *os.File
}

// Start returns a server that answers: the one at TEMPORAL_ADDRESS if that is
// set, else a new development server on 127.0.0.1; a new one in any case if
// Port or Database is set. ctx bounds the start, not the life of the server.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	if address := os.Getenv("TEMPORAL_ADDRESS"); address != "" && o.Port == 0 && o.Database == "" {
		return start(ctx, "", Options{}, address)
	}
	binary, err := tool.TemporalCLI.Binary(ctx, o.Progress)
	if err != nil {
		return nil, err
	}
	for tries := 3; ; tries-- {
		s, err := start(ctx, binary, o, "")
		if tries == 1 || !errors.Is(err, errEnded) {
			return s, err
		}
	}
}

// errEnded: the CLI looks for free ports before it takes them, and gives up if
// somebody else was faster.
var errEnded = errors.New("it ended")

// start returns the server at address, else one that it launches.
func start(ctx context.Context, binary string, o Options, address string) (*Server, error) {
	s := &Server{Address: address}
	if address == "" {
		if err := s.launch(binary, o); err != nil {
			return nil, fmt.Errorf("starting %s: %w", binary, err)
		}
	}
	if err := s.await(ctx); err != nil {
		s.Stop()
		return nil, fmt.Errorf("the Temporal server at %s does not answer (its log: %q): %w", s.Address, o.LogFile, err)
	}
	return s, nil
}

func (s *Server) launch(binary string, o Options) error {
	if o.Port == 0 {
		port, err := child.FreePort()
		if err != nil {
			return err
		}
		o.Port = port
	}
	s.Address = "127.0.0.1:" + strconv.Itoa(o.Port)
	args := []string{"server", "start-dev", "--ip", "127.0.0.1", "--port", strconv.Itoa(o.Port)}
	for _, setting := range []string{"frontend.WorkerHeartbeatsEnabled=true", "frontend.ListWorkersEnabled=true"} { // newer servers have both
		args = append(args, "--dynamic-config-value", setting)
	}
	if o.Database != "" {
		args = append(args, "--db-filename", o.Database)
	}
	if o.UI {
		uiPort, err := child.FreePort()
		if err != nil {
			return err
		}
		s.UI = "http://127.0.0.1:" + strconv.Itoa(uiPort)
		args = append(args, "--ui-port", strconv.Itoa(uiPort))
	} else {
		args = append(args, "--headless")
	}
	cmd := exec.Command(binary, args...)
	var err error
	if o.LogFile != "" {
		if s.log, err = os.Create(o.LogFile); err != nil {
			return err
		}
		cmd.Stdout, cmd.Stderr = s.log, s.log
	}
	s.process, err = child.Start(cmd)
	return err
}

func (s *Server) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		version, err := ask(ctx, s.Address)
		if err == nil {
			s.Version = version
			return nil
		}
		if s.process == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-s.process.Done():
			return fmt.Errorf("%w: %w", errEnded, errors.Join(s.process.Err(), err))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// ask reports the server's version once it serves the default namespace.
func ask(ctx context.Context, address string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := client.DialContext(ctx, client.Options{HostPort: address, Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler))})
	if err != nil {
		return "", err
	}
	defer c.Close()
	if _, err := c.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{}); err != nil {
		return "", err
	}
	info, err := c.WorkflowService().GetSystemInfo(ctx, &workflowservice.GetSystemInfoRequest{})
	return info.GetServerVersion(), err
}

// Kill ends the server by SIGKILL, and reports whether that is what ended it. It
// must be one that Start started.
func (s *Server) Kill() bool { return s.process.Kill() }

// Stop ends the server if Start started it.
func (s *Server) Stop() {
	if s.process != nil {
		s.process.Stop(5 * time.Second)
	}
	if s.log != nil {
		_ = s.log.Close()
	}
}
