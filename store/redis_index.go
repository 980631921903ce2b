package store

import (
	"cmp"
	"context"
	_ "embed" // the scripts
	"errors"
	"math"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// This file is the index of what is open; redis/open.lua says what it is. A
// single server has one. Of a Cluster each slot has one, since a script may only
// write keys of one slot.

var (
	//go:embed redis/index.lua
	indexLua string
	//go:embed redis/page.lua
	pageLua string
	//go:embed redis/mark.lua
	markLua string
)

var (
	indexScript = redis.NewScript(allowOOM + readLua + openLua + indexLua)
	pageScript  = redis.NewScript("#!lua flags=no-writes\n" + pageLua)
	markScript  = redis.NewScript(allowOOM + markLua)
)

const (
	// The entries that say that an index is complete: for the whole server, or for
	// its slot. One is not taken for the other after a move from the one kind of
	// server to the other.
	wholeMark = "complete"
	slotMark  = "complete for its slot"

	// wholeNote is too long for the compact form of a small set, in which every call
	// would look at every entry.
	wholeNote = "the names of the records that are running, in doubt or pending, by since when"

	// How many entries are read from an index at a time.
	wholePage = 500
	slotPage  = 16

	// pipelined bounds the commands of one round trip.
	pipelined = 4096
)

// redisIndex says where the entry of a record is.
type redisIndex struct {
	whole string // the one index, where there is one
	other string // a name in another slot than that one
	// perSlot is set on a Cluster. A client that is none of a Cluster finds out by
	// a server's refusal.
	perSlot *atomic.Bool
	slots   func() *[redisSlots]string
}

func newRedisIndex(client redis.UniversalClient, prefix string) redisIndex {
	x := redisIndex{whole: prefix + "open", perSlot: new(atomic.Bool)}
	_, cluster := client.(clustered)
	x.perSlot.Store(cluster)
	x.slots = sync.OnceValue(func() *[redisSlots]string { return namePerSlot(prefix, "open", x.whole) })
	if x.other = prefix + "{0}other"; redisSlot(x.other) == redisSlot(x.whole) {
		x.other = prefix + "{1}other"
	}
	return x
}

// of returns the index of the record of that name.
func (x redisIndex) of(name string) string {
	if x.perSlot.Load() {
		return x.slots()[redisSlot(name)]
	}
	return x.whole
}

// all returns every index.
func (x redisIndex) all() []string {
	if !x.perSlot.Load() {
		return []string{x.whole}
	}
	return slices.DeleteFunc(slices.Clone(x.slots()[:]), func(name string) bool { return name == "" })
}

func (x redisIndex) mark() string {
	if x.perSlot.Load() {
		return slotMark
	}
	return wholeMark
}

// crossed reports whether err says that keys of one call are in different slots,
// and sees to it that those of the next are not.
func (x redisIndex) crossed(err error) bool {
	if !redis.HasErrorPrefix(err, "CROSSSLOT") {
		return false
	}
	x.perSlot.Store(true)
	return true
}

// eval runs a verb on the record of that name and, if it writes, its index.
func (s *Redis) eval(ctx context.Context, v verb, name string, args ...any) *redis.Cmd {
	if v.script == loadVerb.script {
		return v.script.Run(ctx, s.client, []string{name}, args...)
	}
	cmd := v.script.Run(ctx, s.client, []string{name, s.index.of(name)}, args...)
	if s.index.crossed(cmd.Err()) {
		cmd = v.script.Run(ctx, s.client, []string{name, s.index.of(name)}, args...)
	}
	return cmd
}

// prepare makes calls about a small index as cheap as those about a large one. A
// slot's index has too few entries for that to matter.
func (s *Redis) prepare(ctx context.Context) error {
	if s.index.perSlot.Load() {
		return nil
	}
	return markScript.Run(ctx, s.client, []string{s.index.whole}, wholeNote).Err()
}

// indexed is an entry of an index.
type indexed struct {
	name  string
	score int64
}

// score is that of r in its index; see redis/open.lua.
func (r Record) score() int64 {
	low, _ := scores(r.State)
	if since := r.Since(); !since.IsZero() {
		return low + since.UnixMicro()
	}
	return low
}

// scores returns the range of a state's scores.
func scores(s State) (low, high int64) {
	switch s {
	case InDoubt:
		low = -9e15
	case Pending:
		low = -45e14
	}
	return low, low + 45e14 - 1
}

// indexReader reads the entries of one state from all indexes, in order.
type indexReader struct {
	store *Redis
	high  int64
	from  map[string]string // where to go on in each index that has more
	known []indexed         // read, and in order
	bound int64             // nothing unread comes before
}

// readIndex begins to read. If an index is not complete, it has all records looked
// at before.
func (s *Redis) readIndex(ctx context.Context, q Query) (*indexReader, error) {
	low, high := scores(q.only())
	if q.After.State != Absent {
		low = q.After.score()
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
	s := x.store
	var calls []scriptCall
	page := slotPage
	for index, from := range x.from {
		keys := []string{index}
		if !s.index.perSlot.Load() {
			keys, page = append(keys, s.index.other), wholePage
		}
		calls = append(calls, scriptCall{keys: keys, args: []any{s.index.mark(), from, x.high, page}})
	}
	x.bound = math.MaxInt64
	for i, cmd := range s.evalAll(ctx, pageScript, calls) {
		complete, more, page, err := readPage(cmd)
		switch index := calls[i].keys[0]; {
		case err != nil:
			return s.fail("list", index, err)
		case !complete:
			return s.fail("list", index, errIncomplete)
		default:
			delete(x.from, index)
			if more {
				last := page[len(page)-1].score
				x.from[index] = "(" + strconv.FormatInt(last, 10)
				x.bound = min(x.bound, last)
			}
			for _, e := range page {
				if s.index.of(e.name) == index {
					x.known = append(x.known, e)
				}
			}
		}
	}
	slices.SortFunc(x.known, indexed.compare)
	return nil
}

func readPage(cmd *redis.Cmd) (complete, more bool, page []indexed, err error) {
	reply, err := cmd.Slice()
	if err != nil {
		return false, false, nil, err
	}
	if len(reply) != 3 {
		return false, false, nil, errReply
	}
	words, ok := reply[2].([]any)
	if !ok || len(words)%2 != 0 {
		return false, false, nil, errReply
	}
	for i := 0; i < len(words); i += 2 {
		name, ok1 := words[i].(string)
		score, ok2 := words[i+1].(string)
		n, err := strconv.ParseFloat(score, 64)
		if !ok1 || !ok2 || err != nil {
			return false, false, nil, errReply
		}
		page = append(page, indexed{name, int64(n)})
	}
	return reply[0] == int64(1), reply[1] == int64(1), page, nil
}

// look loads the records of entries, and returns those that are in their state
// since then. One that has come into the state later gets its turn later; the index
// is put right about what has left it.
func (s *Redis) look(ctx context.Context, x *indexReader, state State, entries []indexed) (records []Record, errs []error) {
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
		case r.State == state && r.score() == entries[i].score:
			records = append(records, r)
			continue
		case r.State == state:
			x.add(indexed{names[i], r.score()})
		}
		stale = append(stale, names[i])
	}
	if len(stale) > 0 {
		s.indexAll(ctx, stale) // the next listing tries again
	}
	slices.SortFunc(records, Record.compare)
	return records, errs
}

// Reindex looks at every record, and has those that are running, in doubt or
// pending found by [Redis.List]. The first listing of such records does so by
// itself. Call it after programs have written that know of no index (those before
// version 0.2), or after a backup of some of a Cluster's masters was restored. It
// changes no record, may run beside any other call, and starts anew if it was
// interrupted.
func (s *Redis) Reindex(ctx context.Context) error {
	for {
		perSlot := s.index.perSlot.Load()
		err := s.reindex(ctx, perSlot)
		if err == nil && perSlot == s.index.perSlot.Load() {
			return nil
		}
		if err != nil && !s.index.crossed(err) {
			return s.fail("reindex", "", err)
		}
	}
}

func (s *Redis) reindex(ctx context.Context, perSlot bool) error {
	passes := 1
	if perSlot {
		passes = 2 // the second meets what moves to another master during the first
	}
	for range passes {
		for names, err := range s.scan(ctx, "*") {
			if err == nil {
				err = s.indexOpen(ctx, names)
			}
			if err != nil {
				return err
			}
		}
	}
	var marks []scriptCall
	for _, index := range s.index.all() {
		marks = append(marks, scriptCall{keys: []string{index}, args: []any{s.index.mark()}})
	}
	for _, cmd := range s.evalAll(ctx, markScript, marks) {
		if err := cmd.Err(); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// indexOpen indexes those of the named records that are open. It leaves out what
// cannot be read.
func (s *Redis) indexOpen(ctx context.Context, names []string) error {
	var open []string
	for i, cmd := range s.loadAll(ctx, names) {
		r, err := s.listed(names[i], cmd)
		if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
			return err
		}
		if r.State.open() {
			open = append(open, names[i])
		}
	}
	for _, cmd := range s.indexAll(ctx, open) {
		if err := cmd.Err(); err != nil {
			return err
		}
	}
	return nil
}

// indexAll puts the index right about the named records.
func (s *Redis) indexAll(ctx context.Context, names []string) []*redis.Cmd {
	calls := make([]scriptCall, len(names))
	for i, name := range names {
		calls[i] = scriptCall{keys: []string{name, s.index.of(name)}, args: []any{""}}
	}
	return s.evalAll(ctx, indexScript, calls)
}
