package redisstore

import (
	"context"
	_ "embed" // the script
	"errors"
	"fmt"
	"strconv"
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

// watch reports what has been lost since it was last called.
func (s *Store) watch(ctx context.Context) error {
	nodes, err := s.nodes(ctx)
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
		errs = append(errs, s.evicts(run, info))
	}
	if len(nodes) == 1 {
		runs = nil // nobody hands over
	}
	names, err := s.witnesses(ctx, len(nodes))
	for _, name := range names {
		errs = append(errs, s.ask(ctx, name, runs))
	}
	return errors.Join(append(errs, err)...)
}

// witnesses returns the Redis key of one witness for each of n masters: a counter
// that every Check raises. A server that has lost writes is found behind, or
// without.
func (s *Store) witnesses(ctx context.Context, n int) (names []string, err error) {
	cluster, ok := s.client.(clustered)
	if !ok {
		return []string{s.prefix + "witness{0}"}, nil
	}
	seen := map[string]bool{}
	for i := 0; i < maxWitness && len(seen) < n; i++ {
		name := s.prefix + "witness{" + strconv.Itoa(i) + "}"
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
func (s *Store) ask(ctx context.Context, name string, runs []any) error {
	s.mu.Lock()
	told := s.beats[name]
	s.mu.Unlock()
	reply, err := witness.Run(ctx, s.client, []string{name}, append([]any{s.id, told}, runs...)...).Slice()
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
	// A beat that no replica has is no proof of a loss of what replicas confirmed.
	if s.replicas == 0 || s.confirmWitness(ctx, name) {
		s.mu.Lock()
		s.beats[name] = max(s.beats[name], beat)
		s.mu.Unlock()
	}
	return s.lost(name+s.where(ctx, name), name, loss, by == s.id, fromMicros(at), fromMicros(now))
}

// lost reports a loss that is news: noticed by this handle, or in its time.
func (s *Store) lost(where, name, loss string, mine bool, at, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, known := s.losses[name]
	s.losses[name] = at
	if until := time.Now().Add(at.Add(s.quarantine).Sub(now)); until.After(s.quarantined) {
		s.quarantined = until
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

// where tells which server has a witness.
func (s *Store) where(ctx context.Context, name string) string {
	node, err := s.master(ctx, name)
	if c, ok := node.(*redis.Client); ok && err == nil {
		return " on " + c.Options().Addr
	}
	return ""
}

// evicts reports a server that has evicted keys since it was last asked.
func (s *Store) evicts(run, info string) error {
	n, err := strconv.ParseInt(infoField(info, "evicted_keys"), 10, 64)
	if err != nil {
		return nil // not shown to this user
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before, known := s.evicted[run]
	s.evicted[run] = n
	if !known || n <= before {
		return nil
	}
	return fmt.Errorf("%w: the server with run ID %s has evicted %d keys, records perhaps: set maxmemory-policy noeviction", store.ErrForgot, run, n-before)
}

// inQuarantine refuses a key that has no record, for a while after a loss.
func (s *Store) inQuarantine(ctx context.Context, key string) error {
	s.mu.Lock()
	quarantined := s.quarantine > 0 && time.Now().Before(s.quarantined)
	until := s.quarantined
	s.mu.Unlock()
	if !quarantined {
		return nil
	}
	r, err := s.Load(ctx, key)
	if err == nil && (r.State == store.Absent || r.State == store.Tombstone) {
		err = fmt.Errorf("store: redis: acquire: %w: until %s", store.ErrQuarantine, until.Format(time.RFC3339))
	}
	return err
}
