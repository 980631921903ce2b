package redisstore

import (
	"context"
	_ "embed" // the scripts
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/atmostonce/atmostonce/store"
)

var (
	//go:embed lua/touch.lua
	touchLua string
	//go:embed lua/confirm.lua
	confirmLua string
)

var (
	touch     = redis.NewScript(allowOOM + touchLua)
	witnessed = redis.NewScript(allowOOM + confirmLua)
)

// replicaWait is how long replicas have to confirm a write.
const replicaWait = time.Second

// clustered is what a Cluster's client has over a single server's.
type clustered interface {
	ForEachMaster(ctx context.Context, f func(context.Context, *redis.Client) error) error
	MasterForKey(ctx context.Context, key string) (*redis.Client, error)
	ReloadState(ctx context.Context)
}

// confirm waits until enough replicas have the record that a call has answered.
// WAIT promises something about the writes of its own connection only, which may
// not be the call's: the record is written once more. The master that it is
// written to must still have it; another one may have taken its place since the
// answer.
func (s *Store) confirm(ctx context.Context, name string, r store.Record) error {
	var touched *redis.Cmd
	n, err := s.wait(ctx, name, func(p redis.Pipeliner) { touched = touch.Eval(ctx, p, []string{name}) })
	if err != nil {
		return fmt.Errorf("%w: %w", store.ErrUnreplicated, err)
	}
	head, _ := touched.Text()
	var now store.Record
	if err := parseHead(&now, head); err != nil || now.Owner != r.Owner || now.Fence != r.Fence || now.Revision < r.Revision {
		return fmt.Errorf("%w: the master no longer has it", store.ErrUnreplicated)
	}
	if n < int64(s.replicas) {
		return fmt.Errorf("%w: %d of %d", store.ErrUnreplicated, n, s.replicas)
	}
	return nil
}

// confirmWitness reports whether enough replicas have a witness.
func (s *Store) confirmWitness(ctx context.Context, name string) bool {
	n, err := s.wait(ctx, name, func(p redis.Pipeliner) { witnessed.Eval(ctx, p, []string{name}) })
	return err == nil && n >= int64(s.replicas)
}

// wait returns how many replicas have a write, which it makes on the connection
// that waits.
func (s *Store) wait(ctx context.Context, name string, write func(redis.Pipeliner)) (int64, error) {
	node, err := s.master(ctx, name)
	if err != nil {
		return 0, err
	}
	p := node.Pipeline()
	write(p)
	count := p.Do(ctx, "WAIT", s.replicas, waitFor(node).Milliseconds())
	if _, err := p.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		if cluster, ok := s.client.(clustered); ok {
			cluster.ReloadState(ctx) // the key may have moved
		}
		return 0, err
	}
	return count.Int64()
}

// master returns a client of the server that has the Redis key of that name.
func (s *Store) master(ctx context.Context, name string) (redis.UniversalClient, error) {
	cluster, ok := s.client.(clustered)
	if !ok {
		return s.client, nil
	}
	node, err := cluster.MasterForKey(ctx, name)
	if err != nil {
		return nil, err
	}
	return node, nil
}

// waitFor leaves the client time to read the answer.
func waitFor(node redis.UniversalClient) time.Duration {
	if c, ok := node.(*redis.Client); ok && c.Options().ReadTimeout > 0 {
		return min(replicaWait, c.Options().ReadTimeout/2)
	}
	return replicaWait
}
