package redisstore

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/atmostonce/atmostonce/store"
)

const (
	// scanCount is how many keys of the server one step of a scan looks at.
	scanCount = 500
	// pipelined bounds the commands of one round trip.
	pipelined = 4096
)

// clustered is what a Cluster's client has over a single server's.
type clustered interface {
	ForEachMaster(ctx context.Context, f func(context.Context, *redis.Client) error) error
	MasterForKey(ctx context.Context, key string) (*redis.Client, error)
	ReloadState(ctx context.Context)
}

// scriptCall is what a script is run with.
type scriptCall struct {
	keys []string
	args []any
}

// keyspace is the Redis keys that begin with the store's prefix, and the servers
// that have them.
type keyspace struct {
	client redis.UniversalClient
	prefix string
}

// nameDigits is how much of a key's digest is in the name of its record: 132 bits. Two
// keys of one name would not be taken for each other: a record has its whole key.
const nameDigits = 22

// name returns the Redis key of key. The braces are a Cluster's hash tag.
func (k keyspace) name(key string) string {
	h := sha256.Sum256([]byte(key))
	return k.prefix + "{" + base64.RawURLEncoding.EncodeToString(h[:])[:nameDigits] + "}"
}

// nodes returns a client for each server that holds records.
func (k keyspace) nodes(ctx context.Context) ([]redis.UniversalClient, error) {
	cluster, ok := k.client.(clustered)
	if !ok {
		return []redis.UniversalClient{k.client}, nil
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

// master returns a client of the server that has the Redis key of that name.
func (k keyspace) master(ctx context.Context, name string) (redis.UniversalClient, error) {
	cluster, ok := k.client.(clustered)
	if !ok {
		return k.client, nil
	}
	node, err := cluster.MasterForKey(ctx, name)
	if err != nil {
		return nil, err
	}
	return node, nil
}

// reload has a Cluster's client look for the masters after an error that no server
// sent: by itself it does so only once a minute, or when a server sends it
// elsewhere. A dead server does not.
func (k keyspace) reload(ctx context.Context, err error) {
	var answered redis.Error
	if cluster, ok := k.client.(clustered); ok && !errors.As(err, &answered) {
		cluster.ReloadState(ctx)
	}
}

// scan yields in batches the names of the records that go on so within the braces,
// a glob; some may come twice. It ends with the first error.
func (k keyspace) scan(ctx context.Context, part string) iter.Seq2[[]string, error] {
	pattern := glob(k.prefix) + "{" + part + "}"
	return func(yield func([]string, error) bool) {
		nodes, err := k.nodes(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		for _, node := range nodes {
			for cursor, more := uint64(0), true; more; more = cursor != 0 {
				var names []string
				if names, cursor, err = node.Scan(ctx, cursor, pattern, scanCount).Result(); err != nil {
					yield(nil, err)
					return
				}
				if len(names) > 0 && !yield(names, nil) {
					return
				}
			}
		}
	}
}

// unlink removes the keys of those names.
func (k keyspace) unlink(ctx context.Context, names []string) error {
	_, err := k.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, name := range names {
			p.Unlink(ctx, name)
		}
		return nil
	})
	return err
}

// loadAll loads the named records.
func (k keyspace) loadAll(ctx context.Context, names []string) []*redis.Cmd {
	calls := make([]scriptCall, len(names))
	for i, name := range names {
		calls[i] = scriptCall{keys: []string{name}}
	}
	return k.evalAll(ctx, loadVerb.script, calls)
}

// evalAll runs a script once for each of calls, in few round trips. Each command
// has its own error.
func (k keyspace) evalAll(ctx context.Context, script *redis.Script, calls []scriptCall) []*redis.Cmd {
	cmds := make([]*redis.Cmd, len(calls))
	todo := make([]int, len(calls))
	for i := range todo {
		todo[i] = i
	}
	for len(todo) > 0 {
		for chunk := range slices.Chunk(todo, pipelined) {
			p := k.client.Pipeline()
			for _, i := range chunk {
				cmds[i] = script.EvalSha(ctx, p, calls[i].keys, calls[i].args...)
			}
			_, _ = p.Exec(ctx)
		}
		todo = slices.DeleteFunc(todo, func(i int) bool {
			err := cmds[i].Err()
			return !redis.HasErrorPrefix(err, "NOSCRIPT") && !redis.HasErrorPrefix(err, "TRYAGAIN")
		})
		if len(todo) > 0 {
			// One call brings the script to its server, or waits for its slot to move.
			i := todo[0]
			cmds[i] = script.Run(ctx, k.client, calls[i].keys, calls[i].args...)
			todo = todo[1:]
		}
	}
	return cmds
}

// listed is the record of that name, in loadAll's answer.
func (k keyspace) listed(name string, cmd *redis.Cmd) (store.Record, error) {
	reply, err := cmd.Slice()
	if err != nil {
		return store.Record{}, failure("list", name, err)
	}
	r, _, err := call{}.read(reply)
	if err == nil && r.State != store.Absent && k.name(r.Key) != name {
		err = fmt.Errorf("%w: another key", store.ErrCorrupt)
	}
	if err != nil {
		return store.Record{}, failure("list", name, err)
	}
	return r, nil
}

// glob returns the pattern that matches text alone.
func glob(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(text)
}
