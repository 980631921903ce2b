package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"
)

// measureRunning measures what many guarded calls take while their bodies run.
func measureRunning(ctx context.Context, l *lab) error {
	dir, err := l.folder("running")
	if err != nil {
		return err
	}
	places, err := l.places(dir, "running:")
	if err != nil {
		return err
	}
	defer closeAll(places)
	n := l.size(10_000, 50)
	idle := max(100*time.Millisecond, time.Duration(20*l.effort*float64(time.Second))) // each is renewed once
	var bare [5]float64
	for _, name := range []string{"the SDK alone", "guarded, memory", "guarded, Redis"} {
		at := place{}
		for _, p := range places {
			if strings.HasSuffix(name, ", "+p.name) {
				at = p
			}
		}
		got, err := l.ran(ctx, at, n, idle)
		if err != nil {
			return err
		}
		for i, what := range []string{"heap and stack", "of it stack", "goroutines", "idle CPU", "Redis commands"} {
			r := newResult("running", name, what, []string{"B", "B", "", "% of a core", "/s"}[i], []float64{got[i]})
			if r.N = n; at.store == nil {
				bare[i] = got[i]
			} else {
				r.Over = round(got[i] - bare[i])
			}
			if err := l.add(r, nil); err != nil {
				return err
			}
		}
		l.say("  running, %s: done", name)
	}
	return nil
}

// ran runs n calls at once, and returns bytes of heap and stack, those of stack alone, and goroutines for
// each, and what all of them together cost while nothing happens: a part of a core, and
// commands of Redis.
func (l *lab) ran(ctx context.Context, at place, n int, idle time.Duration) (got [5]float64, err error) {
	var begun sync.WaitGroup
	end := make(chan struct{})
	begun.Add(n)
	body := func(_ context.Context, in charge) (receipt, error) {
		begun.Done()
		<-end
		return receiptOf(in), nil
	}
	calls := make([]call, n)
	if at.store == nil {
		for i := range calls {
			calls[i] = newActivity(nil, body)
		}
	} else {
		guard, err := newGuard(at.store, byOrder())
		if err != nil {
			return got, err
		}
		for i := range calls {
			calls[i] = newActivity(guard, body)
		}
	}
	before := usedNow()
	done := make(chan error, 1)
	go func() {
		done <- together(n, func(i int) error { return calls[i](ctx, charge{newKey(), 4200}) })
	}()
	all := make(chan struct{})
	go func() { begun.Wait(); close(all) }()
	select {
	case <-all:
	case err := <-done:
		return got, fmt.Errorf("they ended: %w", err)
	}
	after := usedNow()
	c := l.dial()
	defer c.Close()
	m := meter{client: c}
	commands, err := m.stats(ctx)
	if err != nil {
		return got, err
	}
	cpu, start := cpuTime(), time.Now()
	select {
	case <-ctx.Done():
	case <-time.After(idle):
	}
	seconds := time.Since(start).Seconds()
	got[3] = round(100 * (cpuTime() - cpu).Seconds() / seconds)
	later, err := m.stats(ctx)
	for name, s := range later {
		if name != "info" && name != "hello" && name != "client|setinfo" {
			got[4] += round((s.calls - commands[name].calls) / seconds)
		}
	}
	close(end)
	for i := range before {
		got[i] = round((after[i] - before[i]) / float64(n))
	}
	if ended := <-done; err == nil {
		err = ended
	}
	runtime.KeepAlive(calls)
	return got, err
}

// usedNow are the bytes of heap and stack, those of stack alone, and the goroutines.
func usedNow() [3]float64 {
	for range 5 { // a collection halves what a stack does not need
		runtime.GC()
	}
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return [3]float64{float64(m.HeapAlloc + m.StackInuse), float64(m.StackInuse), float64(runtime.NumGoroutine())}
}

// cpuTime is what this process has had of the cores.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
