package main

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/bsm/redislock"
	"github.com/go-redsync/redsync/v4"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/redis/go-redis/v9"

	"github.com/atmostonce/atmostonce/store/redisstore"
)

// remembered is how long what is measured is kept.
const remembered = 30 * 24 * time.Hour

const ours = "**atmostonce, store**"

// scheme is a way to do something once, on Redis. The effect stands between two of its
// commands, and takes no time.
type scheme struct {
	name      string
	first     func(ctx context.Context, key string) error
	duplicate func(ctx context.Context, key string) error // nil where it is one of the floors
}

// schemes are the floor, the peers and ours on one client. The values of the floor are
// as large as ours; the peers keep the outcome only.
func (l *lab) schemes(ctx context.Context, c *redis.Client) ([]scheme, error) {
	s, err := redisstore.New(c, redisstore.Options{})
	if err != nil {
		return nil, err
	}
	claimed, settled, err := l.valueSizes(ctx, c)
	if err != nil {
		return nil, err
	}
	claim, record, outcome := rand.Text()+string(make([]byte, claimed)), string(make([]byte, settled)), l.template.outcome.Data
	get := func(ctx context.Context, key string) error { return c.Get(ctx, key).Err() }
	set := func(ctx context.Context, key string) error { return c.Set(ctx, key, outcome, remembered).Err() }
	setNX := func(ctx context.Context, key string, value any, ttl time.Duration) error {
		return c.SetArgs(ctx, key, value, redis.SetArgs{Mode: "NX", TTL: ttl}).Err()
	}
	locker, pool := redislock.New(c), redsync.New(goredis.NewPool(c))
	return []scheme{
		{"floor: `SET NX` + `SET`", func(ctx context.Context, key string) error {
			return errors.Join(setNX(ctx, key, claim[:claimed], remembered), c.Set(ctx, key, record, remembered).Err())
		}, get},
		{"bsm/redislock + `SET`", func(ctx context.Context, key string) error {
			lock, err := locker.Obtain(ctx, "lock:"+key, time.Minute, nil)
			if err != nil {
				return err
			}
			return errors.Join(set(ctx, key), lock.Release(ctx))
		}, nil},
		{"go-redsync/redsync + `SET`", func(ctx context.Context, key string) error {
			lock := pool.NewMutex("lock:"+key, redsync.WithExpiry(time.Minute))
			if err := lock.LockContext(ctx); err != nil {
				return err
			}
			err := set(ctx, key)
			_, unlocked := lock.UnlockContext(ctx)
			return errors.Join(err, unlocked)
		}, nil},
		{"by hand: `GET`, `SET NX`, `SET`, `DEL`", func(ctx context.Context, key string) error {
			return errors.Join(absent(get(ctx, key)), setNX(ctx, "lock:"+key, "1", time.Minute), set(ctx, key), c.Del(ctx, "lock:"+key).Err())
		}, nil},
		{"the ancestor's six commands", func(ctx context.Context, key string) error {
			return errors.Join(absent(get(ctx, key)), setNX(ctx, "lock:"+key, "1", time.Minute), absent(get(ctx, key)),
				c.Set(ctx, key, "in_progress", remembered).Err(), set(ctx, key), c.Del(ctx, "lock:"+key).Err())
		}, nil},
		{ours, func(ctx context.Context, key string) error { return l.template.first(ctx, s, key) },
			func(ctx context.Context, key string) error { return l.template.duplicate(ctx, s, key) }},
	}, nil
}

func absent(err error) error {
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}

// valueSizes are how large our record is while its claim runs, and once it is settled.
func (l *lab) valueSizes(ctx context.Context, c *redis.Client) (claimed, settled int, err error) {
	s, err := redisstore.New(c, redisstore.Options{Prefix: "size:" + rand.Text() + ":"})
	if err != nil {
		return 0, 0, err
	}
	b := l.template.claim(newKey())
	r, err := s.Acquire(ctx, b)
	if err != nil {
		return 0, 0, err
	}
	if claimed, err = largest(ctx, c); err != nil {
		return 0, 0, err
	}
	b.Fence, b.Began = r.Fence, true
	if _, err := s.Settle(ctx, b, l.template.outcome); err != nil {
		return 0, 0, err
	}
	settled, err = largest(ctx, c)
	return claimed, settled, err
}

// largest is the size of the largest of our values, in whatever form it has.
func largest(ctx context.Context, c *redis.Client) (size int, err error) {
	all := c.Scan(ctx, 0, "size:*", 1000).Iterator()
	for all.Next(ctx) {
		dump, err := c.Dump(ctx, all.Val()).Result()
		if absent(err) != nil {
			return 0, err
		}
		size = max(size, len(dump))
	}
	return size, all.Err()
}

// dial returns a client with the settings that a worker would have.
func (l *lab) dial(change ...func(*redis.Options)) *redis.Client {
	o := &redis.Options{Addr: l.address}
	for _, c := range change {
		c(o)
	}
	return redis.NewClient(o)
}

func measureRedis(ctx context.Context, l *lab) error {
	c := l.dial()
	defer c.Close()
	all, err := l.schemes(ctx, c)
	if err != nil {
		return err
	}
	var alone, many, again, againMany []turn
	for _, s := range all {
		first := func(ctx context.Context) error { return s.first(ctx, newKey()) }
		alone = append(alone, turn{name: s.name, measure: timed(1, first)})
		many = append(many, turn{name: s.name, measure: crowded(l.batch(8), first)})
		if s.duplicate == nil {
			continue
		}
		key, name := newKey(), s.name
		if err := s.first(ctx, key); err != nil {
			return err
		}
		if name != ours {
			name = "floor: `GET`"
		}
		duplicate := func(ctx context.Context) error { return s.duplicate(ctx, key) }
		again = append(again, turn{name: name, measure: timed(1, duplicate)})
		againMany = append(againMany, turn{name: name, measure: crowded(l.batch(16), duplicate)})
	}
	for _, m := range []struct {
		table, what string
		rounds      int
		turns       []turn
	}{
		{"redis-first", "1 at once", 8000, alone}, {"redis-first", "64 at once", 60, many},
		{"redis-duplicate", "1 at once", 20_000, again}, {"redis-duplicate", "64 at once", 150, againMany},
	} {
		if err := l.compare(ctx, m.table, m.what, "µs", l.rounds(m.rounds), m.turns); err != nil {
			return err
		}
	}
	return measureServerTime(ctx, l)
}

// measureServerTime measures how long Redis works for a call, and how often it is asked.
func measureServerTime(ctx context.Context, l *lab) error {
	m := newMeter(l)
	defer m.client.Close()
	all, err := l.schemes(ctx, m.client)
	if err != nil {
		return err
	}
	for _, duplicate := range []bool{false, true} {
		table, first := "redis-first", "floor: `SET NX` + `SET`"
		if duplicate {
			table, first = "redis-duplicate", "floor: `GET`"
		}
		var turns []turn
		counts := map[string]usage{}
		for i, s := range all {
			name, call := s.name, s.first
			if duplicate {
				key := newKey()
				if call = s.duplicate; call == nil {
					continue
				}
				if err := s.first(ctx, key); err != nil {
					return err
				}
				call = func(ctx context.Context, _ string) error { return s.duplicate(ctx, key) }
			}
			if i == 0 {
				name = first
			}
			turns = append(turns, turn{name: name, measure: func(ctx context.Context, _ int) (float64, error) {
				u, err := m.measure(ctx, l.batch(50), func(ctx context.Context) error { return call(ctx, newKey()) })
				counts[name] = u
				return u.micros, err
			}})
		}
		if err := l.compare(ctx, table, "Redis works", "µs", l.rounds(40), turns); err != nil {
			return err
		}
		for _, t := range turns {
			u := counts[t.name]
			for what, x := range map[string]float64{"commands": u.commands, "round trips": u.trips} {
				if err := l.add(newResult(table, t.name, what, "", []float64{x}), nil); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
