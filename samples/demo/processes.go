package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/atmostonce/atmostonce/samples/child"
)

// startSelf starts this program as one of its own child processes. Its stderr
// goes to logFile; each line of its stdout, a JSON object, is given to line.
func startSelf[Line any](logFile string, line func(pid int, l Line), args ...string) (*child.Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(logFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer write.Close()
	cmd := exec.Command(self, args...)
	cmd.Stdout, cmd.Stderr = write, log
	p, err := child.Start(cmd)
	if err != nil {
		return nil, errors.Join(err, read.Close())
	}
	go func() {
		defer read.Close()
		lines := bufio.NewScanner(read)
		for lines.Scan() {
			var l Line
			// The last line of a process that was killed may be cut off.
			if json.Unmarshal(lines.Bytes(), &l) == nil {
				line(p.PID(), l)
			}
		}
	}()
	return p, nil
}

// startRedis starts a redis-server of our own that never evicts and keeps what
// it acknowledged.
func startRedis(ctx context.Context, dir string) (*child.Process, string, error) {
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, "", errors.New("redis-server is not on PATH: apt-get install redis-server, or brew install redis")
	}
	port, err := child.FreePort()
	if err != nil {
		return nil, "", err
	}
	// Redis changes its working directory before it opens the log.
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", err
	}
	cmd := exec.Command(binary, "--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", dir,
		"--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction",
		"--logfile", filepath.Join(dir, "redis.log"))
	p, err := child.Start(cmd)
	if err != nil {
		return nil, "", err
	}
	address := "127.0.0.1:" + strconv.Itoa(port)
	if err := awaitListener(ctx, p, address); err != nil {
		p.Kill()
		return nil, "", fmt.Errorf("redis-server (its log: %s): %w", dir, err)
	}
	return p, address, nil
}

func awaitListener(ctx context.Context, p *child.Process, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp4", address)
		if err == nil {
			return conn.Close()
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
