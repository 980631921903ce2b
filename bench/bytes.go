package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"github.com/redis/go-redis/v9"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/redisstore"
)

// fill settles n records, many at once.
func (l *lab) fill(ctx context.Context, s store.Store, from, n int) error {
	return together(crowd, func(worker int) error {
		for i := worker; i < n; i += crowd {
			if err := errors.Join(ctx.Err(), l.template.first(ctx, s, strconv.Itoa(from+i))); err != nil {
				return err
			}
		}
		return nil
	})
}

// measureBytes measures what a settled record takes.
func measureBytes(ctx context.Context, l *lab) error {
	n := l.size(20_000, 200)
	c := l.dial(func(o *redis.Options) { o.DB = 1 })
	defer c.Close()
	remote, err := redisstore.New(c, redisstore.Options{})
	if err != nil {
		return err
	}
	dir, err := l.folder("bytes")
	if err != nil {
		return err
	}
	file, err := store.NewFile(dir, store.FileOptions{})
	if err != nil {
		return err
	}
	memory := store.NewMemory(store.MemoryOptions{MaxRecords: n * 2})
	next := 0 // no key is used twice
	onDisk := func(inodes bool) func(context.Context) (float64, error) {
		return func(context.Context) (float64, error) { return usedDisk(dir, inodes) }
	}
	used := func(ctx context.Context) (float64, error) { return usedMemory(ctx, c) }
	for _, m := range []struct {
		name, unit string
		n          int
		fill       func(from, n int) error
		used       func(context.Context) (float64, error)
	}{
		{"Redis: payload and name only", "B", n, func(from, n int) error { return payloads(ctx, c, from, n, l.template.outcome.Data) }, used},
		{"Redis", "B", n, func(from, n int) error { return l.fill(ctx, remote, from, n) }, used},
		{"memory", "B", n, func(from, n int) error { return l.fill(ctx, memory, from, n) }, usedHeap},
		{"file", "B", n / 4, func(from, n int) error { return l.fill(ctx, file, from, n) }, onDisk(false)},
		{"file", "", n / 20, func(from, n int) error { return l.fill(ctx, file, from, n) }, onDisk(true)},
	} {
		// What a store has once, and the connections, are not counted.
		if err := m.fill(next, m.n/10); err != nil {
			return err
		}
		before, err := m.used(ctx)
		if err != nil {
			return err
		}
		if err := m.fill(next+m.n, m.n); err != nil {
			return err
		}
		next += 2 * m.n
		after, err := m.used(ctx)
		if err != nil {
			return err
		}
		what := map[string]string{"B": "bytes", "": "inodes"}[m.unit]
		r := newResult("bytes", m.name, what, "", []float64{(after - before) / float64(m.n)})
		r.N = m.n
		if err := l.add(r, nil); err != nil {
			return err
		}
		l.say("  bytes, %s, %s: done", m.name, what)
	}
	runtime.KeepAlive(memory)
	return errors.Join(file.Close(), c.FlushDB(ctx).Err())
}

func payloads(ctx context.Context, c *redis.Client, from, n int, data []byte) error {
	pipe := c.Pipeline()
	for i := range n {
		pipe.Set(ctx, fmt.Sprintf("payload:%032d", from+i), data, remembered)
	}
	_, err := pipe.Exec(ctx)
	return err
}

func usedMemory(ctx context.Context, c *redis.Client) (float64, error) {
	info, err := c.InfoMap(ctx, "memory").Result()
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(info["Memory"]["used_memory"], 64)
}

func usedHeap(context.Context) (float64, error) {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc), nil
}

// usedDisk is how many bytes of the disk a folder takes, or how many inodes.
func usedDisk(dir string, inodes bool) (sum float64, err error) {
	err = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && !inodes {
			sum += float64(stat.Blocks) * 512
		} else if inodes {
			sum++
		}
		return nil
	})
	return sum, err
}
