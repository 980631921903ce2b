package store

import (
	"context"
	"fmt"
	"iter"

	"github.com/redis/go-redis/v9"
)

// scanCount is how many keys of the server one step of a scan looks at.
const scanCount = 500

// List implements [Store]. It scans every key of the server, in steps.
func (s *Redis) List(ctx context.Context, q Query) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for names, err := range s.scan(ctx) {
			if err != nil {
				yield(Record{}, s.fail("list", "", err))
				return
			}
			for i, cmd := range s.loadAll(ctx, names) {
				r, err := s.listed(names[i], cmd)
				if err == nil && (r.State == Absent || !q.Matches(r)) {
					continue
				}
				if !yield(r, err) || ctx.Err() != nil {
					return
				}
			}
		}
	}
}

// Clear forgets every record under the store's prefix. It is for tests: effects
// may then happen again.
func (s *Redis) Clear(ctx context.Context) error {
	for names, err := range s.scan(ctx) {
		if err != nil {
			return s.fail("clear", "", err)
		}
		_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, name := range names {
				p.Unlink(ctx, name)
			}
			return nil
		})
		if err != nil {
			return s.fail("clear", "", err)
		}
	}
	return nil
}

// scan yields the names of the records in batches; some may come twice. It ends
// with the first error.
func (s *Redis) scan(ctx context.Context) iter.Seq2[[]string, error] {
	pattern := glob(s.prefix) + "{*}"
	return func(yield func([]string, error) bool) {
		nodes, err := s.nodes(ctx)
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

// loadAll loads the named records in one round trip.
func (s *Redis) loadAll(ctx context.Context, names []string) []*redis.Cmd {
	cmds := make([]*redis.Cmd, len(names))
	p := s.client.Pipeline()
	for i, name := range names {
		cmds[i] = loadVerb.script.EvalSha(ctx, p, []string{name}, "")
	}
	// Each command has its own error, which is read with its reply.
	_, _ = p.Exec(ctx)
	for i, name := range names {
		if redis.HasErrorPrefix(cmds[i].Err(), "NOSCRIPT") {
			cmds[i] = loadVerb.script.Run(ctx, s.client, []string{name}, "")
		}
	}
	return cmds
}

func (s *Redis) listed(name string, cmd *redis.Cmd) (Record, error) {
	reply, err := cmd.Slice()
	if err != nil {
		return Record{}, s.fail("list", name, err)
	}
	r, _, err := call{}.read(reply)
	if err == nil && r.State != Absent && s.name(r.Key) != name {
		err = fmt.Errorf("%w: another key", ErrCorrupt)
	}
	if err != nil {
		return Record{}, s.fail("list", name, err)
	}
	return r, nil
}
