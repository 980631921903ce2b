package redisstore

import (
	"context"
	_ "embed" // the scripts
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/atmostonce/atmostonce/store"
)

// This file is the index of what is open; lua/open.lua says what it is. A
// single server has one. On a Cluster each slot has one, since a script may only
// write keys of one slot.

var (
	//go:embed lua/index.lua
	indexLua string
	//go:embed lua/mark.lua
	markLua string
)

var (
	indexScript = redis.NewScript(allowOOM + clockLua + recordLua + openLua + indexLua)
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
)

// redisIndex is where the open records have their entries.
type redisIndex struct {
	keys  keyspace
	whole string // the one index, where there is one
	other string // a name in another slot than that one
	// perSlot is set on a Cluster. Any other client finds out by a server's
	// refusal.
	perSlot atomic.Bool
	slots   func() *[redisSlots]string
	batches *batches // nil: calls share nothing
}

func newRedisIndex(keys keyspace) *redisIndex {
	prefix := keys.prefix
	x := &redisIndex{keys: keys, whole: prefix + "open"}
	_, cluster := keys.client.(clustered)
	x.perSlot.Store(cluster)
	x.slots = sync.OnceValue(func() *[redisSlots]string { return namePerSlot(prefix, "open", x.whole) })
	if x.other = prefix + "{0}other"; redisSlot(x.other) == redisSlot(x.whole) {
		x.other = prefix + "{1}other"
	}
	return x
}

// of returns the index of the record of that name.
func (x *redisIndex) of(name string) string {
	if x.perSlot.Load() {
		return x.slots()[redisSlot(name)]
	}
	return x.whole
}

// all returns every index.
func (x *redisIndex) all() []string {
	if !x.perSlot.Load() {
		return []string{x.whole}
	}
	return slices.DeleteFunc(slices.Clone(x.slots()[:]), func(name string) bool { return name == "" })
}

func (x *redisIndex) mark() string {
	if x.perSlot.Load() {
		return slotMark
	}
	return wholeMark
}

// crossed reports whether err says that keys of one call are in different slots,
// and sees to it that those of the next are not.
func (x *redisIndex) crossed(err error) bool {
	if !redis.HasErrorPrefix(err, "CROSSSLOT") {
		return false
	}
	x.perSlot.Store(true)
	return true
}

// eval runs a verb on the record of that name and, if it writes, its index.
func (x *redisIndex) eval(ctx context.Context, v verb, name string, args ...any) *redis.Cmd {
	if v.script == loadVerb.script {
		return v.script.Run(ctx, x.keys.client, []string{name}, args...)
	}
	cmd := x.evalShared(ctx, v.script, []string{name, x.of(name)}, args)
	if x.crossed(cmd.Err()) {
		cmd = v.script.Run(ctx, x.keys.client, []string{name, x.of(name)}, args...)
	}
	return cmd
}

// evalShared runs a script in a round trip that other calls may share. What a server
// refuses there for another reason than the record is asked again alone: only then does
// the client repeat it, or bring the script along.
func (x *redisIndex) evalShared(ctx context.Context, script *redis.Script, keys []string, args []any) (cmd *redis.Cmd) {
	alone := func() { cmd = script.Run(ctx, x.keys.client, keys, args...) }
	if x.batches == nil || isLarge(args) {
		alone()
		return cmd
	}
	var batched *redis.Cmd
	own, err := x.batches.run(ctx, keys[0], alone, func(p redis.Pipeliner) { batched = script.EvalSha(ctx, p, keys, args...) })
	switch {
	case err != nil:
		cmd = redis.NewCmd(ctx)
		cmd.SetErr(err)
	case !own && isPassing(batched.Err()):
		alone()
	case !own:
		cmd = batched
	}
	return cmd
}

// isLarge reports whether a script's arguments take so long to send that calls which share
// their round trip might not be sent in time.
func isLarge(args []any) bool {
	n := 0
	for _, a := range args {
		if packed, ok := a.([]byte); ok {
			n += len(packed)
		}
	}
	return n >= largeCall
}

// isPassing reports whether a server's error says nothing of the record, and may not
// come again.
func isPassing(err error) bool {
	return slices.ContainsFunc([]string{"NOSCRIPT", "TRYAGAIN", "LOADING", "READONLY", "CLUSTERDOWN", "MASTERDOWN", "MOVED", "ASK"},
		func(prefix string) bool { return redis.HasErrorPrefix(err, prefix) })
}

// prepare makes calls about a small index as cheap as those about a large one. A
// slot's index has too few entries for that to matter.
func (x *redisIndex) prepare(ctx context.Context) error {
	if x.perSlot.Load() {
		return nil
	}
	return markScript.Run(ctx, x.keys.client, []string{x.whole}, wholeNote).Err()
}

// rebuild is [Store.Reindex].
func (x *redisIndex) rebuild(ctx context.Context) error {
	for {
		perSlot := x.perSlot.Load()
		err := x.addAll(ctx, perSlot)
		if err == nil && perSlot == x.perSlot.Load() {
			return nil
		}
		if err != nil && !x.crossed(err) {
			return failure("reindex", "", err)
		}
	}
}

// addAll looks at every record, and says then that the index is complete.
func (x *redisIndex) addAll(ctx context.Context, perSlot bool) error {
	passes := 1
	if perSlot {
		passes = 2 // the second meets what moves to another master during the first
	}
	for range passes {
		for names, err := range x.keys.scan(ctx, "*") {
			if err == nil {
				err = x.addOpen(ctx, names)
			}
			if err != nil {
				return err
			}
		}
	}
	var marks []scriptCall
	for _, index := range x.all() {
		marks = append(marks, scriptCall{keys: []string{index}, args: []any{x.mark()}})
	}
	for _, cmd := range x.keys.evalAll(ctx, markScript, marks) {
		if err := cmd.Err(); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// addOpen indexes those of the named records that are open. It leaves out what
// cannot be read.
func (x *redisIndex) addOpen(ctx context.Context, names []string) error {
	var open []string
	for i, cmd := range x.keys.loadAll(ctx, names) {
		r, err := x.keys.listed(names[i], cmd)
		if err != nil && !errors.Is(err, store.ErrCorrupt) && !errors.Is(err, store.ErrVersion) {
			return err
		}
		if r.State.IsOpen() {
			open = append(open, names[i])
		}
	}
	for _, cmd := range x.mend(ctx, open) {
		if err := cmd.Err(); err != nil {
			return err
		}
	}
	return nil
}

// mend puts the index right about the named records.
func (x *redisIndex) mend(ctx context.Context, names []string) []*redis.Cmd {
	calls := make([]scriptCall, len(names))
	for i, name := range names {
		calls[i] = scriptCall{keys: []string{name, x.of(name)}}
	}
	return x.keys.evalAll(ctx, indexScript, calls)
}
