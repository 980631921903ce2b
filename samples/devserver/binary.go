package devserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

// Binary returns the path of Temporal's CLI: the one on PATH, else the one that
// tools/temporal-cli pins, built into .cache/bin of this repository. The build
// takes minutes and happens once; its progress goes to progress. Processes that
// call it at the same time build it once.
func Binary(ctx context.Context, progress io.Writer) (string, error) {
	if path, err := exec.LookPath("temporal"); err == nil {
		return path, nil
	}
	root, err := repository()
	if err != nil {
		return "", err
	}
	module := filepath.Join(root, "tools", "temporal-cli")
	version, err := pinned(filepath.Join(module, "go.mod"))
	if err != nil {
		return "", err
	}
	binary := filepath.Join(root, ".cache", "bin", "temporal-"+version)
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	if err := os.MkdirAll(filepath.Dir(binary), 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(binary + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	return binary, build(ctx, module, binary, version, progress)
}

func build(ctx context.Context, module, binary, version string, progress io.Writer) error {
	fmt.Fprintf(progress, "building Temporal's CLI v%s, once, about 5 minutes ...\n", version)
	var out bytes.Buffer
	partial := binary + ".partial"
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", partial, "github.com/temporalio/cli/cmd/temporal")
	cmd.Dir, cmd.Stdout, cmd.Stderr = module, &out, &out
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("building Temporal's CLI: %w\n%s", err, out.Bytes())
			}
			fmt.Fprintf(progress, "  built in %v\n", time.Since(start).Round(time.Second))
			return os.Rename(partial, binary)
		case <-tick.C:
			fmt.Fprintf(progress, "  %v\n", time.Since(start).Round(time.Second))
		}
	}
}

var cliVersion = regexp.MustCompile(`github\.com/temporalio/cli v(\S+)`)

func pinned(goMod string) (string, error) {
	text, err := os.ReadFile(goMod)
	if err != nil {
		return "", err
	}
	m := cliVersion.FindSubmatch(text)
	if m == nil {
		return "", fmt.Errorf("%s does not require github.com/temporalio/cli", goMod)
	}
	return string(m[1]), nil
}

// repository finds the root of this repository above the working directory.
func repository() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "tools", "temporal-cli", "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("temporal is not on PATH, and outside of this repository it cannot be built: see https://docs.temporal.io/cli")
		}
	}
	return "", err
}

func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}
