package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/redisstore"
)

// measureScale measures a first run and a duplicate in stores of growing size.
func measureScale(ctx context.Context, l *lab) error {
	sizes := []int{l.size(1000, 10), l.size(10_000, 20), l.size(100_000, 40)}
	for _, kind := range []string{"memory", "Redis", "file"} {
		var first, duplicate []turn
		if l.large && kind == "memory" {
			sizes = append(sizes, 1_000_000)
		} else if kind == "file" {
			sizes = sizes[:3] // a million files take hours
		}
		for i, n := range sizes {
			s, end, err := l.sized(kind, i, n)
			if err != nil {
				return err
			}
			defer end()
			if err := l.fill(ctx, s, 0, n); err != nil {
				return err
			}
			name, base := fmt.Sprintf("%s, %s", kind, counted(n)), fmt.Sprintf("%s, %s", kind, counted(sizes[0]))
			first = append(first, turn{name, base, timed(1, func(ctx context.Context) error {
				return l.template.first(ctx, s, "new/"+newKey())
			})})
			duplicate = append(duplicate, turn{name, base, timed(1, func(ctx context.Context) error {
				return l.template.duplicate(ctx, s, strconv.Itoa(rand.IntN(n)))
			})})
			l.say("  scale, %s: filled", name)
		}
		rounds := map[string]int{"memory": 10_000, "Redis": 2000, "file": 300}[kind]
		if err := l.compare(ctx, "scale", "first run", "µs", l.rounds(rounds), first); err != nil {
			return err
		}
		if err := l.compare(ctx, "scale", "duplicate", "µs", l.rounds(rounds), duplicate); err != nil {
			return err
		}
	}
	return nil
}

// sized opens an empty store that n records fit in, the i-th of its kind.
func (l *lab) sized(kind string, i, n int) (store.Store, func(), error) {
	switch kind {
	case "memory":
		return store.NewMemory(store.MemoryOptions{MaxRecords: 2*n + 100_000}), func() {}, nil
	case "Redis":
		c := l.dial(func(o *redis.Options) { o.DB = 2 + i })
		s, err := redisstore.New(c, redisstore.Options{})
		return s, func() { _, _ = c.FlushDB(context.Background()).Result(); _ = c.Close() }, err
	default:
		dir, err := l.folder("scale")
		if err != nil {
			return nil, nil, err
		}
		s, err := store.NewFile(dir, store.FileOptions{})
		return s, func() { _ = s.Close() }, err
	}
}

// counted writes a number with commas.
func counted(n int) string {
	digits := []byte(strconv.Itoa(n))
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = slices.Insert(digits, i, ',')
	}
	return string(digits)
}
