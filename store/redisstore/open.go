package redisstore

import (
	"cmp"
	"context"
	_ "embed" // the script
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/atmostonce/atmostonce/store"
)

// This file reads the index of what is open.

//go:embed lua/page.lua
var pageLua string

var pageScript = redis.NewScript("#!lua flags=no-writes,allow-cross-slot-keys\n" + pageLua)

const (
	// How many entries are read from an index at a time.
	wholePage = 500
	slotPage  = 16
	// nodePages is how many indexes one call to a Cluster's master reads: it takes
	// the server a millisecond or two.
	nodePages = 1024
)

// indexed is an entry of an index.
type indexed struct {
	name  string
	score int64
}

// scoreOf is that of r in its index; see lua/open.lua.
func scoreOf(r store.Record) int64 {
	low, _ := scores(r.State)
	if since := r.Since(); !since.IsZero() {
		return low + since.UnixMicro()
	}
	return low
}

// scores returns the range of a state's scores.
func scores(s store.State) (low, high int64) {
	switch s {
	case store.InDoubt:
		low = -9e15
	case store.Pending:
		low = -45e14
	}
	return low, low + 45e14 - 1
}

// indexReader reads the entries of one state from all indexes, in order.
type indexReader struct {
	store *Store
	high  int64
	from  map[string]string // where to go on in each index that has more
	known []indexed         // read, and in order
	bound int64             // nothing unread comes before
}

// readIndex begins to read. If an index is not complete, it has all records looked
// at before.
func (s *Store) readIndex(ctx context.Context, q store.Query) (*indexReader, error) {
	low, high := scores(q.OnlyState())
	if q.After.State != store.Absent {
		low = scoreOf(q.After)
	}
	for rebuilt := false; ; {
		x := &indexReader{store: s, high: high, from: map[string]string{}}
		for _, index := range s.index.all() {
			x.from[index] = strconv.FormatInt(low, 10)
		}
		err := x.read(ctx)
		if errors.Is(err, errIncomplete) && !rebuilt {
			rebuilt = true
			err = s.Reindex(ctx)
		} else if !s.index.crossed(err) {
			return x, err
		}
		if err != nil && !s.index.crossed(err) {
			return nil, err
		}
	}
}

// next returns the entries that come next: none at the end. Those of one score come
// together.
func (x *indexReader) next(ctx context.Context) ([]indexed, error) {
	for len(x.from) > 0 && (len(x.known) == 0 || x.known[0].score > x.bound) {
		if err := x.read(ctx); err != nil {
			return nil, err
		}
	}
	n := 0
	for n < len(x.known) && x.known[n].score <= x.bound && (n < scanCount || x.known[n].score == x.known[n-1].score) {
		n++
	}
	var entries []indexed
	entries, x.known = x.known[:n:n], x.known[n:]
	return entries, nil
}

// add has an entry come in its turn.
func (x *indexReader) add(e indexed) {
	i, _ := slices.BinarySearchFunc(x.known, e, indexed.compare)
	x.known = slices.Insert(x.known, i, e)
}

func (e indexed) compare(other indexed) int { return cmp.Compare(e.score, other.score) }

// errIncomplete: an index may lack open records.
var errIncomplete = errors.New("the index is not complete")

// read reads a page of each index that has more.
func (x *indexReader) read(ctx context.Context) error {
	pages, err := x.store.readPages(ctx, x.from, x.high)
	if err != nil {
		return x.store.fail("list", "", err)
	}
	x.from, x.bound = map[string]string{}, math.MaxInt64
	for _, p := range pages {
		if p.more {
			last := p.entries[len(p.entries)-1].score
			x.from[p.index] = "(" + strconv.FormatInt(last, 10)
			x.bound = min(x.bound, last)
		}
		for _, e := range p.entries {
			if x.store.index.of(e.name) == p.index {
				x.known = append(x.known, e)
			}
		}
	}
	slices.SortFunc(x.known, indexed.compare)
	return nil
}

// indexPage is what is read of an index at a time.
type indexPage struct {
	index   string
	more    bool
	entries []indexed
}

// readPages reads a page of each index, on from the score it has in from. Pages
// without entries are left out.
func (s *Store) readPages(ctx context.Context, from map[string]string, high int64) ([]indexPage, error) {
	indexes := slices.Sorted(maps.Keys(from))
	cluster, ok := s.client.(clustered)
	if !ok {
		return s.askEach(ctx, indexes, from, high)
	}
	byNode := map[*redis.Client][]string{}
	for _, index := range indexes {
		node, err := cluster.MasterForKey(ctx, index)
		if err != nil {
			return nil, err
		}
		byNode[node] = append(byNode[node], index)
	}
	var mu sync.Mutex
	var all []indexPage
	var elsewhere []string
	var errs []error
	var done sync.WaitGroup
	for node, indexes := range byNode {
		done.Go(func() {
			for chunk := range slices.Chunk(indexes, nodePages) {
				cmd := pageScript.Run(ctx, node, []string{}, s.pageArgs(chunk, from, high)...)
				pages, moved, err := readPages(chunk, cmd)
				mu.Lock()
				all, elsewhere, errs = append(all, pages...), append(elsewhere, moved...), append(errs, err)
				mu.Unlock()
			}
		})
	}
	done.Wait()
	if err := errors.Join(errs...); err != nil {
		cluster.ReloadState(ctx)
		return nil, err
	}
	// Where a slot has moved, or moves, the client is sent.
	pages, err := s.askEach(ctx, elsewhere, from, high)
	return append(all, pages...), err
}

// askEach asks for one index per call.
func (s *Store) askEach(ctx context.Context, indexes []string, from map[string]string, high int64) (all []indexPage, err error) {
	calls := make([]scriptCall, len(indexes))
	for i, index := range indexes {
		keys := []string{index}
		if !s.index.perSlot.Load() {
			keys = append(keys, s.index.other)
		}
		calls[i] = scriptCall{keys: keys, args: s.pageArgs(indexes[i:i+1], from, high)}
	}
	for i, cmd := range s.evalAll(ctx, pageScript, calls) {
		pages, _, err := readPages(indexes[i:i+1], cmd)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", indexes[i], err)
		}
		all = append(all, pages...)
	}
	return all, nil
}

func (s *Store) pageArgs(indexes []string, from map[string]string, high int64) []any {
	page := wholePage
	if s.index.perSlot.Load() {
		page = slotPage
	}
	args := []any{s.index.mark(), high, page}
	for _, index := range indexes {
		args = append(args, index, from[index])
	}
	return args
}

// readPages reads the reply of page.lua.
func readPages(indexes []string, cmd *redis.Cmd) (pages []indexPage, elsewhere []string, err error) {
	reply, err := cmd.Slice()
	for _, part := range reply {
		words, _ := part.([]any)
		if len(words) != 1 && len(words) != 4 {
			return nil, nil, errReply
		}
		which, ok := words[0].(int64)
		if !ok || which < 0 || which >= int64(len(indexes)) {
			return nil, nil, errReply
		}
		index := indexes[which]
		if len(words) == 1 {
			elsewhere = append(elsewhere, index)
			continue
		}
		if words[1] != int64(1) {
			return nil, nil, fmt.Errorf("%w: %s", errIncomplete, index)
		}
		entries, err := readEntries(words[3])
		if err != nil {
			return nil, nil, err
		}
		pages = append(pages, indexPage{index: index, more: words[2] == int64(1) && len(entries) > 0, entries: entries})
	}
	return pages, elsewhere, err
}

func readEntries(reply any) (entries []indexed, err error) {
	words, ok := reply.([]any)
	if !ok || len(words)%2 != 0 {
		return nil, errReply
	}
	for i := 0; i < len(words); i += 2 {
		name, ok1 := words[i].(string)
		text, ok2 := words[i+1].(string)
		score, err := strconv.ParseFloat(text, 64)
		if !ok1 || !ok2 || err != nil {
			return nil, errReply
		}
		entries = append(entries, indexed{name, int64(score)})
	}
	return entries, nil
}

// look loads the records of entries, and returns those that are in their state
// since then. One that has come into the state later gets its turn later; the index
// is put right about what has left it.
func (s *Store) look(ctx context.Context, x *indexReader, state store.State, entries []indexed) (records []store.Record, errs []error) {
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.name
	}
	var stale []string
	for i, cmd := range s.loadAll(ctx, names) {
		r, err := s.listed(names[i], cmd)
		switch {
		case err != nil:
			errs = append(errs, err)
			continue
		case r.State == state && scoreOf(r) == entries[i].score:
			records = append(records, r)
			continue
		case r.State == state:
			x.add(indexed{names[i], scoreOf(r)})
		}
		stale = append(stale, names[i])
	}
	if len(stale) > 0 {
		s.indexAll(ctx, stale) // the next listing tries again
	}
	slices.SortFunc(records, store.Record.Compare)
	return records, errs
}
