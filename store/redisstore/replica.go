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

// replicas confirm what a master has written.
type replicas struct {
	keys  keyspace
	count int // how many must
}

// confirm waits until enough replicas have the record that a call has answered.
// WAIT promises something about the writes of its own connection only, which may
// not be the call's: the record is written once more. The master that it is
// written to must still have it; another one may have taken its place since the
// answer.
func (rs replicas) confirm(ctx context.Context, name string, r store.Record) error {
	var touched *redis.Cmd
	n, err := rs.wait(ctx, name, func(p redis.Pipeliner) { touched = touch.Eval(ctx, p, []string{name}) })
	if err != nil {
		return fmt.Errorf("%w: %w", store.ErrUnreplicated, err)
	}
	head, _ := touched.Text()
	var now store.Record
	u := &unpacker{rest: head}
	_, err = unpackHead(&now, u)
	if now.Owner = u.owner(); err != nil || now.Owner != r.Owner || now.Fence != r.Fence || now.Revision < r.Revision {
		return fmt.Errorf("%w: the master no longer has it", store.ErrUnreplicated)
	}
	if n < int64(rs.count) {
		return fmt.Errorf("%w: %d of %d", store.ErrUnreplicated, n, rs.count)
	}
	return nil
}

// haveWitness reports whether enough replicas have a witness.
func (rs replicas) haveWitness(ctx context.Context, name string) bool {
	n, err := rs.wait(ctx, name, func(p redis.Pipeliner) { witnessed.Eval(ctx, p, []string{name}) })
	return err == nil && n >= int64(rs.count)
}

// wait returns how many replicas have a write, which it makes on the connection
// that waits.
func (rs replicas) wait(ctx context.Context, name string, write func(redis.Pipeliner)) (int64, error) {
	node, err := rs.keys.master(ctx, name)
	if err != nil {
		return 0, err
	}
	p := node.Pipeline()
	write(p)
	count := p.Do(ctx, "WAIT", rs.count, waitFor(node).Milliseconds())
	if _, err := p.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		if cluster, ok := rs.keys.client.(clustered); ok {
			cluster.ReloadState(ctx) // the key may have moved
		}
		return 0, err
	}
	return count.Int64()
}

// waitFor leaves the client time to read the answer.
func waitFor(node redis.UniversalClient) time.Duration {
	if c, ok := node.(*redis.Client); ok && c.Options().ReadTimeout > 0 {
		return min(replicaWait, c.Options().ReadTimeout/2)
	}
	return replicaWait
}
