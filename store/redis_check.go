package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Check implements [Checker]: it refuses, with ErrUnsafe, a server that is older
// than 7.0 or whose maxmemory-policy evicts records, even while maxmemory is
// unlimited, since that can change at run time. It answers ErrUnverified where
// the server does not let it look. On a Cluster it asks every master.
func (s *Redis) Check(ctx context.Context) error {
	nodes, err := s.nodes(ctx)
	if err != nil {
		return s.fail("check", "", err)
	}
	var unverified error
	for _, node := range nodes {
		err := s.checkNode(ctx, node)
		if errors.Is(err, ErrUnverified) {
			unverified = err
		} else if err != nil {
			return s.fail("check", "", err)
		}
	}
	// Running its scripts finds out whether this user may.
	if _, err := s.Load(ctx, "check"); err != nil {
		return err
	}
	if err := s.prepare(ctx); err != nil {
		return s.fail("check", s.index.whole, err)
	}
	if err := s.watch(ctx); err != nil {
		return s.fail("check", "", err)
	}
	if unverified != nil {
		return s.fail("check", "", unverified)
	}
	return nil
}

func (s *Redis) checkNode(ctx context.Context, node redis.Cmdable) error {
	if err := node.Ping(ctx).Err(); err != nil {
		return err
	}
	info, err := node.Info(ctx).Result()
	if err != nil && !refused(err) {
		return err
	}
	if version := infoField(info, "redis_version"); version != "" {
		major, _, _ := strings.Cut(version, ".")
		if n, err := strconv.Atoi(major); err == nil && n < 7 {
			return fmt.Errorf("%w: Redis %s cannot run the store's scripts: use 7.0 or newer", ErrUnsafe, version)
		}
	}
	policy, limit := infoField(info, "maxmemory_policy"), infoField(info, "maxmemory")
	if policy == "" {
		conf, err := node.ConfigGet(ctx, "maxmemory*").Result()
		if err != nil && !refused(err) {
			return err
		}
		policy, limit = conf["maxmemory-policy"], conf["maxmemory"]
	}
	replicas, err := strconv.Atoi(infoField(info, "connected_slaves"))
	few := err == nil && replicas < s.replicas
	switch {
	case policy == "noeviction" && few:
		return fmt.Errorf("%w: %d replicas are connected and RedisOptions.Replicas is %d: claims are refused until there are more", ErrUnverified, replicas, s.replicas)
	case policy == "noeviction":
		return nil
	case policy == "":
		return fmt.Errorf("%w: this user may run neither INFO nor CONFIG GET: make sure that maxmemory-policy is noeviction", ErrUnverified)
	}
	return fmt.Errorf("%w: the server may evict records (maxmemory-policy %s, maxmemory %s): set maxmemory-policy noeviction", ErrUnsafe, policy, limit)
}

// refused reports whether the server answered that the command is not for this
// user, or not there at all.
func refused(err error) bool {
	return redis.HasErrorPrefix(err, "NOPERM") || redis.HasErrorPrefix(err, "unknown command")
}

// infoField returns the value of one line of INFO.
func infoField(info, field string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// nodes returns a client for each server that holds records.
func (s *Redis) nodes(ctx context.Context) ([]redis.Cmdable, error) {
	cluster, ok := s.client.(clustered)
	if !ok {
		return []redis.Cmdable{s.client}, nil
	}
	var mu sync.Mutex
	var nodes []redis.Cmdable
	err := cluster.ForEachMaster(ctx, func(_ context.Context, node *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		nodes = append(nodes, node)
		return nil
	})
	return nodes, err
}
