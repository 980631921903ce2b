package redisstore

import (
	"context"
	"crypto/rand"
	_ "embed" // the script
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/atmostonce/atmostonce/store"
)

//go:embed lua/witness.lua
var witnessLua string

var witness = redis.NewScript(allowOOM + witnessLua)

// maxWitness bounds the search for a witness of each of a Cluster's masters. One
// with a twentieth of the slots is missed once in 10^22.
const maxWitness = 1000

// watcher notices what servers have lost.
type watcher struct {
	keys       keyspace
	replicas   replicas
	quarantine time.Duration // after a loss
	id         string        // of this handle

	mu          sync.Mutex
	beats       map[string]int64     // of each witness
	losses      map[string]time.Time // when each witness noticed its last one
	evicted     map[string]int64     // keys, by the server's run ID
	quarantined time.Time            // until when, by the local clock
}

func newWatcher(keys keyspace, r replicas, quarantine time.Duration) *watcher {
	return &watcher{
		keys: keys, replicas: r, quarantine: quarantine,
		id: rand.Text(), beats: map[string]int64{}, losses: map[string]time.Time{}, evicted: map[string]int64{},
	}
}

// check reports what has been lost since it was last called.
func (w *watcher) check(ctx context.Context) error {
	nodes, err := w.keys.nodes(ctx)
	if err != nil {
		return err
	}
	var errs []error
	var runs []any
	for _, node := range nodes {
		info, err := node.Info(ctx).Result()
		if err != nil && !refused(err) {
			return errors.Join(append(errs, err)...)
		}
		run := infoField(info, "run_id")
		runs = append(runs, run)
		errs = append(errs, w.evicts(run, info))
	}
	if len(nodes) == 1 {
		runs = nil // nobody hands over
	}
	names, err := w.witnesses(ctx, len(nodes))
	for _, name := range names {
		errs = append(errs, w.ask(ctx, name, runs))
	}
	return errors.Join(append(errs, err)...)
}

// witnesses returns the Redis key of one witness for each of n masters: a counter
// that every Check raises. On a server that has lost writes it is behind, or
// missing.
func (w *watcher) witnesses(ctx context.Context, n int) (names []string, err error) {
	cluster, ok := w.keys.client.(clustered)
	if !ok {
		return []string{w.keys.prefix + "witness{0}"}, nil
	}
	seen := map[string]bool{}
	for i := 0; i < maxWitness && len(seen) < n; i++ {
		name := w.keys.prefix + "witness{" + strconv.Itoa(i) + "}"
		node, err := cluster.MasterForKey(ctx, name)
		if err != nil {
			return names, err
		}
		if addr := node.Options().Addr; !seen[addr] {
			seen[addr] = true
			names = append(names, name)
		}
	}
	return names, nil
}

// ask raises one witness's beat, and reports what the witness has noticed. runs
// are the run IDs of all masters.
func (w *watcher) ask(ctx context.Context, name string, runs []any) error {
	w.mu.Lock()
	told := w.beats[name]
	w.mu.Unlock()
	reply, err := witness.Run(ctx, w.keys.client, []string{name}, append([]any{w.id, told}, runs...)...).Slice()
	if err != nil {
		return err
	}
	if len(reply) != 5 {
		return errReply
	}
	beat, ok1 := reply[0].(int64)
	loss, ok2 := reply[1].(string)
	at, ok3 := reply[2].(int64)
	now, ok4 := reply[3].(int64)
	by, ok5 := reply[4].(string)
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 {
		return errReply
	}
	// Only a beat that replicas have can prove the loss of what they confirmed.
	if w.replicas.count == 0 || w.replicas.haveWitness(ctx, name) {
		w.mu.Lock()
		w.beats[name] = max(w.beats[name], beat)
		w.mu.Unlock()
	}
	return w.lost(name+w.where(ctx, name), name, loss, by == w.id, fromMicros(at), fromMicros(now))
}

// lost reports a loss that is news: noticed by this handle, or in its time.
func (w *watcher) lost(where, name, loss string, mine bool, at, now time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	before, known := w.losses[name]
	w.losses[name] = at
	if until := time.Now().Add(at.Add(w.quarantine).Sub(now)); until.After(w.quarantined) {
		w.quarantined = until
	}
	switch {
	case loss == "" || at.Equal(before) || !known && !mine:
		return nil
	case loss == "forgot":
		return fmt.Errorf("%w: %s is behind what was acknowledged, seen at %s; compare the effects of the time before with their callees",
			store.ErrForgot, where, at.Format(time.RFC3339))
	}
	return fmt.Errorf("%w: %s, seen at %s", store.ErrReplaced, where, at.Format(time.RFC3339))
}

// where says which server has a witness.
func (w *watcher) where(ctx context.Context, name string) string {
	node, err := w.keys.master(ctx, name)
	if c, ok := node.(*redis.Client); ok && err == nil {
		return " on " + c.Options().Addr
	}
	return ""
}

// evicts reports a server that has evicted keys since it was last asked.
func (w *watcher) evicts(run, info string) error {
	n, err := strconv.ParseInt(infoField(info, "evicted_keys"), 10, 64)
	if err != nil {
		return nil // not shown to this user
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	before, known := w.evicted[run]
	w.evicted[run] = n
	if !known || n <= before {
		return nil
	}
	return fmt.Errorf("%w: the server with run ID %s has evicted %d keys, records perhaps: set maxmemory-policy noeviction", store.ErrForgot, run, n-before)
}

// quarantineEnd returns when the quarantine ends, and whether it lasts.
func (w *watcher) quarantineEnd() (end time.Time, lasts bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.quarantined, w.quarantine > 0 && time.Now().Before(w.quarantined)
}
