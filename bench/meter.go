package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// usage is what one call costs the server, and how often it is asked.
type usage struct {
	micros   float64 // that its one thread works inside commands
	commands float64 // those inside scripts included
	trips    float64
}

// meter is a client whose commands are counted, and the server that runs them.
type meter struct {
	client *redis.Client
	trips  atomic.Int64

	mu   sync.Mutex
	sent map[string]float64 // by name, from outside of scripts
}

func newMeter(l *lab) *meter {
	m := &meter{sent: map[string]float64{}}
	m.client = l.dial(func(o *redis.Options) {
		o.PoolSize = 1 // what a connection begins with is sent once
		o.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			return countedConn{conn, &m.trips}, err
		}
	})
	m.client.AddHook(m)
	return m
}

// countedConn counts what is sent: a pipeline is sent at once.
type countedConn struct {
	net.Conn
	trips *atomic.Int64
}

func (c countedConn) Write(b []byte) (int, error) {
	c.trips.Add(1)
	return c.Conn.Write(b)
}

// DialHook implements redis.Hook.
func (m *meter) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (m *meter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, c redis.Cmder) error {
		m.count(c)
		return next(ctx, c)
	}
}

// ProcessPipelineHook implements redis.Hook.
func (m *meter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, all []redis.Cmder) error {
		m.count(all...)
		return next(ctx, all)
	}
}

func (m *meter) count(all ...redis.Cmder) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range all {
		m.sent[c.Name()]++
	}
}

// measure runs f n times, and returns what each cost.
func (m *meter) measure(ctx context.Context, n int, f func(ctx context.Context) error) (usage, error) {
	if err := f(ctx); err != nil { // it may load a script
		return usage{}, err
	}
	before, err := m.stats(ctx)
	if err != nil {
		return usage{}, err
	}
	m.mu.Lock()
	clear(m.sent)
	m.mu.Unlock()
	trips := m.trips.Load()
	for range n {
		if err := f(ctx); err != nil {
			return usage{}, err
		}
	}
	u := usage{trips: float64(m.trips.Load() - trips)}
	m.mu.Lock()
	sent := m.sent
	m.sent = map[string]float64{}
	m.mu.Unlock()
	after, err := m.stats(ctx)
	for name, s := range after {
		calls, micros := s.calls-before[name].calls, s.micros-before[name].micros
		if calls <= 0 || name == "info" {
			continue
		}
		u.commands += calls
		// The time of a script has that of its commands in it.
		u.micros += micros * min(1, sent[name]/calls)
	}
	return usage{u.micros / float64(n), u.commands / float64(n), u.trips / float64(n)}, err
}

type commandStats struct{ calls, micros float64 }

func (m *meter) stats(ctx context.Context) (map[string]commandStats, error) {
	info, err := m.client.Info(ctx, "commandstats").Result()
	if err != nil {
		return nil, err
	}
	all := map[string]commandStats{}
	for line := range strings.SplitSeq(info, "\r\n") {
		name, numbers, found := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":")
		if !found || !strings.HasPrefix(line, "cmdstat_") {
			continue
		}
		var s commandStats
		for field := range strings.SplitSeq(numbers, ",") {
			key, value, _ := strings.Cut(field, "=")
			if key != "calls" && key != "usec" {
				continue
			}
			x, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return nil, fmt.Errorf("commandstats %q: %w", line, err)
			}
			if key == "calls" {
				s.calls = x
			} else {
				s.micros = x
			}
		}
		all[name] = s
	}
	return all, nil
}
