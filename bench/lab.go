package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// lab is what the measurements share: a Redis server, a folder on a disk, and where
// the results go.
type lab struct {
	settings

	dir      string // on a disk; removed at the end
	redis    *process
	address  string // of redis
	template template
	report   *report
	raw      *json.Encoder
	rawFile  *os.File
	progress io.Writer
	start    time.Time

	mu sync.Mutex // guards report and raw
}

func newLab(ctx context.Context, s settings) (*lab, error) {
	l := &lab{settings: s, progress: os.Stderr, start: time.Now(), report: &report{}}
	ready := false
	defer func() {
		if !ready {
			l.close()
		}
	}()
	for _, dir := range []string{s.raw, cacheFolder} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	var err error
	if l.rawFile, err = os.Create(filepath.Join(s.raw, "samples.jsonl")); err != nil {
		return nil, err
	}
	l.raw = json.NewEncoder(l.rawFile)
	if l.dir, err = os.MkdirTemp(cacheFolder, "bench-"); err != nil {
		return nil, err
	}
	if l.dir, err = filepath.Abs(l.dir); err != nil {
		return nil, err
	}
	if l.redis, l.address, err = startRedis(ctx, l.dir); err != nil {
		return nil, err
	}
	if l.template, err = newTemplate(); err != nil {
		return nil, err
	}
	l.report.Machine, err = newMachine(ctx, l.address)
	ready = err == nil
	return l, err
}

func (l *lab) close() {
	if l.redis != nil {
		l.redis.kill()
	}
	if l.rawFile != nil {
		_ = l.rawFile.Close()
	}
	if l.dir != "" {
		_ = os.RemoveAll(l.dir)
	}
}

// folder returns a new folder on the disk.
func (l *lab) folder(name string) (string, error) { return os.MkdirTemp(l.dir, name+"-") }

func (l *lab) say(format string, args ...any) {
	fmt.Fprintf(l.progress, "%6.0f s  %s\n", time.Since(l.start).Seconds(), fmt.Sprintf(format, args...))
}

// turn is one case of a comparison.
type turn struct {
	name string
	// base is the case that this one is divided by, round by round; the first one by
	// default.
	base    string
	measure func(ctx context.Context, round int) (float64, error)
}

// compare measures the cases in turns, in a new order each round, so that what else the
// machine does meets all of them. The first rounds, a tenth, are not counted.
func (l *lab) compare(ctx context.Context, table, what, unit string, rounds int, turns []turn) error {
	samples := make([][]float64, len(turns))
	warm := max(1, rounds/10)
	said := time.Now()
	for round := range warm + rounds {
		if time.Since(said) > 10*time.Second {
			l.say("  %s, %s: %d of %d rounds", table, what, round, warm+rounds)
			said = time.Now()
		}
		for _, i := range rand.Perm(len(turns)) {
			x, err := turns[i].measure(ctx, round)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", table, turns[i].name, err)
			}
			if round >= warm {
				samples[i] = append(samples[i], x)
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	for i, t := range turns {
		base := max(0, slices.IndexFunc(turns, func(other turn) bool { return other.name == t.base }))
		r := newResult(table, t.name, what, unit, samples[i])
		if i != base {
			r.pair(samples[i], samples[base])
		}
		if err := l.add(r, samples[i]); err != nil {
			return err
		}
	}
	l.say("  %s, %s: done", table, what)
	return nil
}

// add keeps a result, and writes down what it was made of.
func (l *lab) add(r result, samples []float64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.report.Results = append(l.report.Results, r)
	return l.raw.Encode(struct {
		Table, Case, What, Unit string
		Samples                 []float64
	}{r.Table, r.Case, r.What, r.Unit, samples})
}

// timed measures n calls of f, one after the other, in µs for each.
func timed(n int, f func(ctx context.Context) error) func(context.Context, int) (float64, error) {
	return func(ctx context.Context, _ int) (float64, error) {
		start := time.Now()
		for range n {
			if err := f(ctx); err != nil {
				return 0, err
			}
		}
		return since(start) / float64(n), nil
	}
}

// crowd is how many calls there are at once where there are many.
const crowd = 64

// crowded measures n calls of f by each of a crowd, in µs for each call.
func crowded(n int, f func(ctx context.Context) error) func(context.Context, int) (float64, error) {
	return func(ctx context.Context, _ int) (float64, error) {
		start := time.Now()
		err := together(crowd, func(int) error {
			for range n {
				if err := f(ctx); err != nil {
					return err
				}
			}
			return nil
		})
		return since(start) / float64(n*crowd), err
	}
}

// together runs f n times at once, and returns the first error.
func together(n int, f func(i int) error) error {
	var all sync.WaitGroup
	errs := make(chan error, n)
	for i := range n {
		all.Go(func() { errs <- f(i) })
	}
	all.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
