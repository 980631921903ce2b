package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// result is one figure: what was measured of one case.
type result struct {
	Table  string  `json:"table"`
	Case   string  `json:"case"`
	What   string  `json:"what"`
	Unit   string  `json:"unit,omitempty"`
	N      int     `json:"n"`
	Median float64 `json:"median"`
	P10    float64 `json:"p10"`
	P90    float64 `json:"p90"`
	P99    float64 `json:"p99,omitempty"`
	// Ratio is the median of the ratios to the base in the same rounds, with its
	// quartiles; Over is the median of the differences. Zero where this is the base.
	Ratio float64 `json:"ratio,omitempty"`
	Q1    float64 `json:"q1,omitempty"`
	Q3    float64 `json:"q3,omitempty"`
	Over  float64 `json:"over,omitempty"`
}

func newResult(table, name, what, unit string, samples []float64) result {
	q := quantiles(samples)
	return result{Table: table, Case: name, What: what, Unit: unit, N: len(samples), Median: q(0.5), P10: q(0.1), P90: q(0.9)}
}

// pair compares samples with those of a base in the same rounds.
func (r *result) pair(samples, base []float64) {
	ratios, over := make([]float64, len(samples)), make([]float64, len(samples))
	for i := range samples {
		ratios[i], over[i] = samples[i]/max(base[i], 1e-3), samples[i]-base[i]
	}
	q := quantiles(ratios)
	r.Ratio, r.Q1, r.Q3, r.Over = q(0.5), q(0.25), q(0.75), quantiles(over)(0.5)
}

// quantiles returns a function of what part of the samples is below.
func quantiles(samples []float64) func(part float64) float64 {
	sorted := slices.Sorted(slices.Values(samples))
	return func(part float64) float64 {
		return round(sorted[min(len(sorted)-1, int(part*float64(len(sorted))))])
	}
}

// round keeps four digits.
func round(x float64) float64 {
	if x == 0 {
		return 0
	}
	scale := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(x))))
	return math.Round(x*scale) / scale
}

// report is a whole run.
type report struct {
	Machine machine
	Results []result
}

// find returns a figure.
func (r *report) find(table, name, what string) (result, bool) {
	i := slices.IndexFunc(r.Results, func(x result) bool { return x.Table == table && x.Case == name && x.What == what })
	if i < 0 {
		return result{}, false
	}
	return r.Results[i], true
}

// write writes a line for the machine, and one for each figure.
func (r *report) write(path string) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(r.Machine)
	for _, x := range r.Results {
		err = errors.Join(err, e.Encode(x))
	}
	if err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}

func readReport(path string) (*report, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := &report{}
	d := json.NewDecoder(bufio.NewReader(f))
	if err := d.Decode(&r.Machine); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for {
		var x result
		if err := d.Decode(&x); errors.Is(err, io.EOF) {
			return r, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		r.Results = append(r.Results, x)
	}
}

// machine is where and with what a run was made.
type machine struct {
	Date     string            `json:"date"`
	CPU      string            `json:"cpu"`
	Cores    int               `json:"cores"`
	OS       string            `json:"os"`
	Go       string            `json:"go"`
	Redis    string            `json:"redis"`
	Temporal string            `json:"temporal,omitempty"`
	Modules  map[string]string `json:"modules"`
	Load     [2]string         `json:"load"` // average of a minute, before and after
	Seconds  int               `json:"seconds"`
	Flags    string            `json:"flags,omitempty"`

	start time.Time
}

// compared are the modules whose versions matter.
var compared = []string{
	"go.temporal.io/sdk", "github.com/redis/go-redis/v9", "github.com/bsm/redislock", "github.com/go-redsync/redsync/v4", "go.opentelemetry.io/otel/sdk",
}

func newMachine(ctx context.Context, address string) (machine, error) {
	m := machine{
		start: time.Now(), Date: time.Now().UTC().Format(time.DateOnly), Cores: runtime.NumCPU(), Go: runtime.Version(),
		CPU: found("/proc/cpuinfo", `model name\s*:\s*(.+)`), OS: system(ctx), Modules: map[string]string{},
		Load: [2]string{load(), ""}, Flags: strings.Join(os.Args[1:], " "),
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			if slices.Contains(compared, dep.Path) {
				m.Modules[dep.Path] = dep.Version
			}
		}
	}
	c := redis.NewClient(&redis.Options{Addr: address})
	defer c.Close()
	info, err := c.InfoMap(ctx, "server").Result()
	if err != nil {
		return m, err
	}
	m.Redis = info["Server"]["redis_version"]
	return m, nil
}

// finish notes what only the end of a run shows.
func (m *machine) finish() {
	m.Load[1], m.Seconds = load(), int(time.Since(m.start).Seconds())
}

func load() string { return found("/proc/loadavg", `^(\S+)`) }

// system is the name of the operating system and its kernel.
func system(ctx context.Context) string {
	name := found("/etc/os-release", `(?m)^PRETTY_NAME="?([^"\n]+)`)
	kernel, err := exec.CommandContext(ctx, "uname", "-sr").Output()
	if err != nil {
		return runtime.GOOS
	}
	release := regexp.MustCompile(`^\w+ \d+\.\d+`).FindString(string(kernel))
	return strings.TrimPrefix(name+", "+release, unknown+", ")
}

const unknown = "unknown"

// found is the first group of a pattern in a file.
func found(path, pattern string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return unknown
	}
	m := regexp.MustCompile(pattern).FindSubmatch(text)
	if m == nil {
		return unknown
	}
	return strings.TrimSpace(string(m[1]))
}
