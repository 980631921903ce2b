package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/atmostonce/atmostonce/store"
)

// inspector looks whether servers can be relied on.
type inspector struct {
	keys     keyspace
	rights   rights
	replicas int // that must be connected
}

// check asks each server. It answers ErrUnverified only if no answer is worse.
func (x inspector) check(ctx context.Context) error {
	nodes, err := x.keys.nodes(ctx)
	if err != nil {
		return err
	}
	var unverified error
	for _, node := range nodes {
		err := x.checkNode(ctx, node)
		if errors.Is(err, store.ErrUnverified) {
			unverified = err
		} else if err != nil {
			return err
		}
	}
	return unverified
}

func (x inspector) checkNode(ctx context.Context, node redis.UniversalClient) error {
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
	unsure := x.rights.check(ctx, node)
	if unable(unsure) {
		return fmt.Errorf("%w: %w", who.tooOld(), unsure)
	} else if unsure != nil && !errors.Is(unsure, store.ErrUnverified) {
		return unsure
	}
	if !who.isKnown() {
		unsure = errors.Join(unsure, fmt.Errorf("%w: the store has not been tested with %s", store.ErrUnverified, who))
	}
	err = x.checkMemory(ctx, node, who.info)
	if err != nil && !errors.Is(err, store.ErrUnverified) {
		return err
	}
	return errors.Join(unsure, err)
}

// checkMemory refuses a server that may evict records.
func (x inspector) checkMemory(ctx context.Context, node redis.UniversalClient, info string) error {
	policy, limit := infoField(info, "maxmemory_policy"), infoField(info, "maxmemory")
	if policy == "" {
		conf, err := node.ConfigGet(ctx, "maxmemory*").Result()
		if err != nil && !refused(err) {
			return err
		}
		policy, limit = conf["maxmemory-policy"], conf["maxmemory"]
	}
	replicas, err := strconv.Atoi(infoField(info, "connected_slaves"))
	few := err == nil && replicas < x.replicas
	switch {
	case policy == "noeviction" && few:
		return fmt.Errorf("%w: %d replicas are connected and redisstore.Options.Replicas is %d: claims are refused until there are more", store.ErrUnverified, replicas, x.replicas)
	case policy == "noeviction":
		return nil
	case policy == "":
		return fmt.Errorf("%w: this user may run neither INFO nor CONFIG GET: make sure that maxmemory-policy is noeviction", store.ErrUnverified)
	}
	return fmt.Errorf("%w: the server may evict records (maxmemory-policy %s, maxmemory %s): set maxmemory-policy noeviction", store.ErrUnsafe, policy, limit)
}
