// Package child runs processes that end with the program that started them.
package child

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"syscall"
	"time"
)

// Process is a running child. Its methods may be called concurrently and
// repeatedly.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait; written before done is closed
}

// Start starts cmd in its own process group, so that a Ctrl-C at the terminal
// reaches only the parent, which then ends its children in order. On Linux the
// kernel kills the child when the parent dies, however it dies.
func Start(cmd *exec.Cmd) (*Process, error) {
	cmd.SysProcAttr = attributes()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Process{cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// PID returns the process ID.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says how the process ended: nil for status 0 and while it runs.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// Kill sends SIGKILL and returns when the process has ended. It reports whether
// that signal is what ended it.
func (p *Process) Kill() bool {
	// An error says that it has ended already.
	_ = p.cmd.Process.Kill()
	<-p.done
	exit := (*exec.ExitError)(nil)
	if !errors.As(p.err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// Stop asks the process to end by SIGTERM, and kills it if it has not within
// grace. It returns when the process has ended.
func (p *Process) Stop(grace time.Duration) {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(grace):
		p.Kill()
	}
}

// FreePort returns a port of 127.0.0.1 that nobody listened on a moment ago.
func FreePort() (int, error) {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// AwaitListener returns when something listens at the address of p, and an error
// if p ends, or after ten seconds.
func AwaitListener(ctx context.Context, p *Process, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp4", address)
		if err == nil {
			select {
			case <-p.Done(): // somebody else listens there
				return fmt.Errorf("it ended: %w", errors.Join(p.Err(), conn.Close()))
			default:
				return conn.Close()
			}
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-p.Done():
			return fmt.Errorf("it ended: %w", errors.Join(p.Err(), err))
		case <-time.After(20 * time.Millisecond):
		}
	}
}
