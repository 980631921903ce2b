package child

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// Redis starts a redis-server on 127.0.0.1, with its files in dir, that never
// evicts and keeps what it acknowledged. It returns the address.
func Redis(ctx context.Context, dir string) (*Process, string, error) {
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, "", errors.New("redis-server is not on PATH: apt-get install redis-server, or brew install redis")
	}
	port, err := FreePort()
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
	p, err := Start(cmd)
	if err != nil {
		return nil, "", err
	}
	address := "127.0.0.1:" + strconv.Itoa(port)
	if err := AwaitListener(ctx, p, address); err != nil {
		p.Kill()
		return nil, "", fmt.Errorf("redis-server (its log: %s): %w", dir, err)
	}
	return p, address, nil
}
