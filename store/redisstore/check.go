package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/atmostonce/atmostonce/store"
)

// Check implements [store.Checker]: it refuses, with ErrUnsafe, a server that cannot run
// the store's scripts, by its name and version, or whose maxmemory-policy evicts
// records, even while maxmemory is unlimited, since that can change at run time;
// and with ErrDenied a user that may not run one of the commands which the package's
// documentation lists. It answers ErrUnverified where the server does not let it
// look. On a Cluster it asks every master.
func (s *Store) Check(ctx context.Context) error {
	nodes, err := s.nodes(ctx)
	if err != nil {
		return s.fail("check", "", err)
	}
	var unverified error
	for _, node := range nodes {
		err := s.checkNode(ctx, node)
		if errors.Is(err, store.ErrUnverified) {
			unverified = err
		} else if err != nil {
			return s.fail("check", "", err)
		}
	}
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

func (s *Store) checkNode(ctx context.Context, node redis.UniversalClient) error {
	if err := node.Ping(ctx).Err(); err != nil && !forbidden(err) {
		return err
	}
	who, err := identify(ctx, node)
	if err != nil {
		return err
	}
	if err := who.check(); err != nil {
		return err
	}
	unsure := s.checkRights(ctx, node)
	if unable(unsure) {
		return fmt.Errorf("%w: %w", who.tooOld(), unsure)
	} else if unsure != nil && !errors.Is(unsure, store.ErrUnverified) {
		return unsure
	}
	if !who.isKnown() {
		unsure = errors.Join(unsure, fmt.Errorf("%w: the store has not been tested with %s", store.ErrUnverified, who))
	}
	err = s.checkMemory(ctx, node, who.info)
	if err != nil && !errors.Is(err, store.ErrUnverified) {
		return err
	}
	return errors.Join(unsure, err)
}

// checkMemory refuses a server that may evict records.
func (s *Store) checkMemory(ctx context.Context, node redis.UniversalClient, info string) error {
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
		return fmt.Errorf("%w: %d replicas are connected and redisstore.Options.Replicas is %d: claims are refused until there are more", store.ErrUnverified, replicas, s.replicas)
	case policy == "noeviction":
		return nil
	case policy == "":
		return fmt.Errorf("%w: this user may run neither INFO nor CONFIG GET: make sure that maxmemory-policy is noeviction", store.ErrUnverified)
	}
	return fmt.Errorf("%w: the server may evict records (maxmemory-policy %s, maxmemory %s): set maxmemory-policy noeviction", store.ErrUnsafe, policy, limit)
}

// refused reports whether the server answered that the command is not for this
// user, or not there at all.
func refused(err error) bool {
	return forbidden(err) || redis.HasErrorPrefix(err, "unknown command")
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
func (s *Store) nodes(ctx context.Context) ([]redis.UniversalClient, error) {
	cluster, ok := s.client.(clustered)
	if !ok {
		return []redis.UniversalClient{s.client}, nil
	}
	var mu sync.Mutex
	var nodes []redis.UniversalClient
	err := cluster.ForEachMaster(ctx, func(_ context.Context, node *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		nodes = append(nodes, node)
		return nil
	})
	return nodes, err
}
