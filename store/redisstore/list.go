package redisstore

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/atmostonce/atmostonce/store"
)

// scanCount is how many keys of the server one step of a scan looks at.
const scanCount = 500

// List implements [store.Store]. It finds what is running, in doubt or pending in an
// index, and a record by its whole Digest at once. Any other query scans every key
// of the server, in steps.
func (s *Store) List(ctx context.Context, q store.Query) iter.Seq2[store.Record, error] {
	part, whole, ok := digestName(q.Digest)
	return func(yield func(store.Record, error) bool) {
		switch state := q.OnlyState(); {
		case !ok:
			if err := ctx.Err(); err != nil {
				yield(store.Record{}, err) // no record has such a digest
			}
		case whole:
			s.listNames(ctx, q, []string{s.prefix + "{" + part + "}"}, yield)
		case state.IsOpen():
			s.listOpen(ctx, q, state, yield)
		default:
			for names, err := range s.scan(ctx, part+"*") {
				if err != nil {
					yield(store.Record{}, s.fail("list", "", err))
					return
				}
				if !s.listNames(ctx, q, names, yield) {
					return
				}
			}
		}
	}
}

// listNames yields those of the named records that match, and reports whether the
// caller wants more.
func (s *Store) listNames(ctx context.Context, q store.Query, names []string, yield func(store.Record, error) bool) bool {
	for i, cmd := range s.loadAll(ctx, names) {
		r, err := s.listed(names[i], cmd)
		if err == nil && (r.State == store.Absent || !q.Matches(r)) {
			continue
		}
		if err != nil && ctx.Err() != nil {
			yield(store.Record{}, ctx.Err())
			return false
		}
		if !yield(r, err) {
			return false
		}
	}
	return true
}

// listOpen yields the records of an open state that match, oldest first.
func (s *Store) listOpen(ctx context.Context, q store.Query, state store.State, yield func(store.Record, error) bool) {
	x, err := s.readIndex(ctx, q)
	for err == nil {
		var entries []indexed
		if entries, err = x.next(ctx); len(entries) == 0 {
			break
		}
		records, errs := s.look(ctx, x, state, entries)
		if err = ctx.Err(); err != nil {
			break
		}
		for _, err := range errs {
			if !yield(store.Record{}, err) {
				return
			}
		}
		for _, r := range records {
			if q.Matches(r) && !yield(r, nil) {
				return
			}
		}
		err = ctx.Err()
	}
	if err != nil {
		yield(store.Record{}, err)
	}
}

// digestName returns how the name of a record goes on after the prefix and the
// brace if its key has a digest that begins so, and whether that is the whole
// digest. It reports false if no digest begins so.
func digestName(digest string) (part string, whole, ok bool) {
	whole = len(digest) == 2*sha256.Size
	known := len(digest) * 4 / 6 // characters of base64
	if len(digest)%2 != 0 {
		digest += "0"
	}
	sum, err := hex.DecodeString(digest)
	if err != nil || len(sum) > sha256.Size || strings.ToLower(digest) != digest {
		return "", false, false
	}
	part = base64.RawURLEncoding.EncodeToString(sum)
	if !whole {
		part = part[:known]
	}
	return part, whole, true
}

// Clear forgets every record under the store's prefix. It is for tests: effects
// may then happen again.
func (s *Store) Clear(ctx context.Context) error {
	for names, err := range s.scan(ctx, "*") {
		if err == nil {
			err = s.unlink(ctx, names)
		}
		if err != nil {
			return s.fail("clear", "", err)
		}
	}
	for names := range slices.Chunk(s.index.all(), pipelined) {
		if err := s.unlink(ctx, names); err != nil {
			return s.fail("clear", "", err)
		}
	}
	return nil
}

func (s *Store) unlink(ctx context.Context, names []string) error {
	_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, name := range names {
			p.Unlink(ctx, name)
		}
		return nil
	})
	return err
}

// scan yields in batches the names of the records that go on so within the braces,
// a glob; some may come twice. It ends with the first error.
func (s *Store) scan(ctx context.Context, part string) iter.Seq2[[]string, error] {
	pattern := glob(s.prefix) + "{" + part + "}"
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

// loadAll loads the named records.
func (s *Store) loadAll(ctx context.Context, names []string) []*redis.Cmd {
	calls := make([]scriptCall, len(names))
	for i, name := range names {
		calls[i] = scriptCall{keys: []string{name}, args: []any{""}}
	}
	return s.evalAll(ctx, loadVerb.script, calls)
}

type scriptCall struct {
	keys []string
	args []any
}

// evalAll runs a script once for each of calls, in few round trips. Each command
// has its own error.
func (s *Store) evalAll(ctx context.Context, script *redis.Script, calls []scriptCall) []*redis.Cmd {
	cmds := make([]*redis.Cmd, len(calls))
	todo := make([]int, len(calls))
	for i := range todo {
		todo[i] = i
	}
	for len(todo) > 0 {
		for chunk := range slices.Chunk(todo, pipelined) {
			p := s.client.Pipeline()
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
			cmds[i] = script.Run(ctx, s.client, calls[i].keys, calls[i].args...)
			todo = todo[1:]
		}
	}
	return cmds
}

func (s *Store) listed(name string, cmd *redis.Cmd) (store.Record, error) {
	reply, err := cmd.Slice()
	if err != nil {
		return store.Record{}, s.fail("list", name, err)
	}
	r, _, err := call{}.read(reply)
	if err == nil && r.State != store.Absent && s.name(r.Key) != name {
		err = fmt.Errorf("%w: another key", store.ErrCorrupt)
	}
	if err != nil {
		return store.Record{}, s.fail("list", name, err)
	}
	return r, nil
}
