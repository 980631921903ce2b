package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// process is a child that ends with the harness.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

func start(cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr = attributes()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // ProcessState says how it ended
	}()
	return p, nil
}

// kill ends the process by SIGKILL, and reports whether that is what ended it.
func (p *process) kill() bool {
	_ = p.cmd.Process.Kill() // an error says that it has ended
	<-p.done
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// startRedis starts a server that keeps nothing on disk, and returns its address.
func startRedis(ctx context.Context, dir string) (*process, string, error) {
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, "", errors.New("redis-server is not on PATH: make bench installs it")
	}
	port, err := freePort()
	if err != nil {
		return nil, "", err
	}
	cmd := exec.CommandContext(ctx, binary, "--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", dir, "--save", "", "--appendonly", "no",
		"--rdbcompression", "no", // DUMP shows how large a value is
		"--maxmemory-policy", "noeviction", "--databases", "64", "--logfile", filepath.Join(dir, "redis.log"))
	p, err := start(cmd)
	if err != nil {
		return nil, "", err
	}
	address := "127.0.0.1:" + strconv.Itoa(port)
	err = p.await(ctx, func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp4", address)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	if err != nil {
		p.kill()
		return nil, "", fmt.Errorf("redis-server: %w", err)
	}
	return p, address, nil
}

// startTemporal starts a development server, and returns its address.
func startTemporal(ctx context.Context, dir string, answers func(ctx context.Context, address string) error) (*process, string, error) {
	binary, err := exec.LookPath("temporal")
	if err != nil {
		built, _ := filepath.Glob(filepath.Join(cacheFolder, "bin", "temporal-*[0-9]"))
		if len(built) == 0 {
			return nil, "", errors.New("there is no Temporal CLI: make bench builds it")
		}
		binary = built[len(built)-1]
	}
	port, err := freePort()
	if err != nil {
		return nil, "", err
	}
	log, err := os.Create(filepath.Join(dir, "temporal.log"))
	if err != nil {
		return nil, "", err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, binary, "server", "start-dev", "--ip", "127.0.0.1", "--port", strconv.Itoa(port), "--headless")
	cmd.Stdout, cmd.Stderr = log, log
	p, err := start(cmd)
	if err != nil {
		return nil, "", err
	}
	address := "127.0.0.1:" + strconv.Itoa(port)
	if err := p.await(ctx, func(ctx context.Context) error { return answers(ctx, address) }); err != nil {
		p.kill()
		return nil, "", fmt.Errorf("temporal server: %w", err)
	}
	return p, address, nil
}

// await returns when the process answers.
func (p *process) await(ctx context.Context, answers func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := answers(ctx)
		select {
		case <-p.done:
			return errors.New("it ended")
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(20 * time.Millisecond):
			if err == nil {
				return nil
			}
		}
	}
}

// freePort returns a port that nobody listened on a moment ago.
func freePort() (int, error) {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
