// Package tool finds the programs that the samples run beside workers, or builds
// them.
package tool

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
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// Tool is a program that a module under tools/ of this repository pins.
type Tool struct {
	Name   string // on PATH
	folder string // under tools
	module string
	path   string // of its main package, below the module
	cgo    bool
}

// The tools.
var (
	TemporalCLI = Tool{Name: "temporal", folder: "temporal-cli", module: "github.com/temporalio/cli", path: "/cmd/temporal"}
	TraceViewer = Tool{Name: "otel-desktop-viewer", folder: "trace-viewer", module: "github.com/CtrlSpice/otel-desktop-viewer", cgo: true}
	// VictoriaMetrics is never taken from PATH, where there may be one without a UI.
	VictoriaMetrics = Tool{Name: "victoria-metrics", folder: "victoria-metrics", module: "github.com/VictoriaMetrics/VictoriaMetrics", path: "/app/victoria-metrics"}
	VMAlert         = Tool{Name: "vmalert", folder: "victoria-metrics", module: "github.com/VictoriaMetrics/VictoriaMetrics", path: "/app/vmalert"}
)

// Binary returns the path of the tool: the one on PATH, else the version that
// its module pins, built into .cache/bin of this repository. A build takes
// minutes and happens once; its progress goes to progress. Processes that call it
// at the same time build it once.
func (t Tool) Binary(ctx context.Context, progress io.Writer) (string, error) {
	if path, err := exec.LookPath(t.Name); err == nil && t != VictoriaMetrics {
		return path, nil
	}
	root, err := repository()
	if err != nil {
		return "", fmt.Errorf("%s is not on PATH: %w", t.Name, err)
	}
	version, err := t.pinned(root)
	if err != nil {
		return "", err
	}
	binary := filepath.Join(root, ".cache", "bin", t.Name+"-"+version)
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	if err := os.MkdirAll(filepath.Dir(binary), 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(ctx, binary+".lock", progress)
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	return binary, t.build(ctx, filepath.Join(root, "tools", t.folder), binary, version, progress)
}

func (t Tool) build(ctx context.Context, module, binary, version string, progress io.Writer) error {
	fmt.Fprintf(progress, "building %s %s, once, which takes some minutes ...\n", t.Name, version)
	var out bytes.Buffer
	partial := binary + ".partial"
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-ldflags=-s -w", "-o", partial, t.module+t.path)
	cmd.Dir, cmd.Stdout, cmd.Stderr = module, &out, &out
	cgo := "CGO_ENABLED=0"
	if t.cgo {
		cgo = "CGO_ENABLED=1"
	}
	cmd.WaitDelay = time.Second // the compilers that go has started may be at work yet
	cmd.Env = append(os.Environ(), cgo, "GOWORK=off")
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
				return fmt.Errorf("building %s: %w\n%s", t.Name, err, out.Bytes())
			}
			fmt.Fprintf(progress, "  built in %v\n", time.Since(start).Round(time.Second))
			return os.Rename(partial, binary)
		case <-tick.C:
			fmt.Fprintf(progress, "  %v\n", time.Since(start).Round(time.Second))
		}
	}
}

// pinned returns the version that the tool's go.mod requires.
func (t Tool) pinned(root string) (string, error) {
	goMod := filepath.Join(root, "tools", t.folder, "go.mod")
	text, err := os.ReadFile(goMod)
	if err != nil {
		return "", err
	}
	m := regexp.MustCompile(regexp.QuoteMeta(t.module) + ` v(\S+)`).FindSubmatch(text)
	if m == nil {
		return "", fmt.Errorf("%s does not require %s", goMod, t.module)
	}
	return string(m[1]), nil
}

// repository finds the root of this repository above the working directory.
func repository() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "tools", TemporalCLI.folder, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("outside of this repository it cannot be built")
		}
	}
	return "", err
}

// lock waits until no other process has the lock.
func lock(ctx context.Context, path string, progress io.Writer) (unlock func(), err error) {
	f := flock.New(path)
	if locked, err := f.TryLock(); err != nil || locked {
		return func() { _ = f.Close() }, err
	}
	fmt.Fprintf(progress, "another process is building %s ...\n", strings.TrimSuffix(filepath.Base(path), ".lock"))
	if _, err := f.TryLockContext(ctx, 200*time.Millisecond); err != nil {
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}
