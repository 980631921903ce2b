package store

import (
	"context"
	_ "embed" // the script
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

//go:embed redis/witness.lua
var witnessLua string

var witness = redis.NewScript(allowOOM + witnessLua)

// maxWitness bounds the search for a witness of each of a Cluster's masters. One
// with a twentieth of the slots is missed once in 10^22.
const maxWitness = 1000

// witnesses returns the Redis key of one witness for each master: a counter that
// every Check raises. A server that has lost writes is found behind, or without.
func (s *Redis) witnesses(ctx context.Context) (map[string]redis.Cmdable, error) {
	cluster, ok := s.client.(clustered)
	if !ok {
		return map[string]redis.Cmdable{s.prefix + "witness{0}": s.client}, nil
	}
	masters, err := s.nodes(ctx)
	if err != nil {
		return nil, err
	}
	found := map[string]redis.Cmdable{}
	seen := map[string]bool{}
	for i := 0; i < maxWitness && len(seen) < len(masters); i++ {
		name := s.prefix + "witness{" + strconv.Itoa(i) + "}"
		node, err := cluster.MasterForKey(ctx, name)
		if err != nil {
			return nil, err
		}
		if addr := node.Options().Addr; !seen[addr] {
			seen[addr] = true
			found[name] = node
		}
	}
	return found, nil
}

// watch reports what has been lost since it was last called.
func (s *Redis) watch(ctx context.Context) error {
	all, err := s.witnesses(ctx)
	if err != nil {
		return err
	}
	infos, runs := map[string]string{}, []any{}
	for name, node := range all {
		info, err := node.Info(ctx).Result()
		if err != nil && !refused(err) {
			return err
		}
		infos[name] = info
		runs = append(runs, infoField(info, "run_id"))
	}
	var errs []error
	for name, node := range all {
		errs = append(errs, s.ask(ctx, name, node, infos[name], runs), s.evicts(name, infos[name]))
	}
	return errors.Join(errs...)
}

// ask raises one witness's beat, and reports what the witness has noticed. runs
// are the run IDs of all masters.
func (s *Redis) ask(ctx context.Context, name string, node redis.Cmdable, info string, runs []any) error {
	s.mu.Lock()
	told := s.beats[name]
	s.mu.Unlock()
	args := append([]any{infoField(info, "run_id"), told}, runs...)
	reply, err := witness.Run(ctx, node, []string{name}, args...).Slice()
	if err != nil {
		if cluster, ok := s.client.(clustered); ok {
			cluster.ReloadState(ctx) // the witness may have moved
		}
		return err
	}
	if len(reply) != 4 {
		return errReply
	}
	beat, ok1 := reply[0].(int64)
	loss, ok2 := reply[1].(string)
	at, ok3 := reply[2].(int64)
	now, ok4 := reply[3].(int64)
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return errReply
	}
	return s.lost(name, beat, loss, fromMicros(at), fromMicros(now))
}

// lost keeps what a witness has said, and reports a loss that is news: not one
// from before this handle's time.
func (s *Redis) lost(name string, beat int64, loss string, at, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beats[name] = max(s.beats[name], beat)
	before, known := s.losses[name]
	news := at.After(before) && (known || at.Equal(now))
	if news || !known {
		s.losses[name] = at
	}
	if until := time.Now().Add(at.Add(s.quarantine).Sub(now)); until.After(s.quarantined) {
		s.quarantined = until
	}
	switch {
	case loss == "" || !news:
		return nil
	case loss == "forgot":
		return fmt.Errorf("%w: %s is behind what it had acknowledged, as of %s; compare the effects of the time before with their callees", ErrForgot, name, at.Format(time.RFC3339))
	}
	return fmt.Errorf("%w: %s, as of %s", ErrReplaced, name, at.Format(time.RFC3339))
}

// evicts reports a server that has evicted keys since it was last asked.
func (s *Redis) evicts(name, info string) error {
	n, err := strconv.ParseInt(infoField(info, "evicted_keys"), 10, 64)
	if err != nil {
		return nil // not shown to this user
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before, known := s.evicted[name]
	s.evicted[name] = n
	if !known || n <= before {
		return nil
	}
	return fmt.Errorf("%w: the server of %s has evicted %d keys, records perhaps: set maxmemory-policy noeviction", ErrForgot, name, n-before)
}

// inQuarantine refuses a key that has no record, for a while after a loss.
func (s *Redis) inQuarantine(ctx context.Context, key string) error {
	s.mu.Lock()
	quarantined := s.quarantine > 0 && time.Now().Before(s.quarantined)
	until := s.quarantined
	s.mu.Unlock()
	if !quarantined {
		return nil
	}
	r, err := s.Load(ctx, key)
	if err == nil && (r.State == Absent || r.State == Tombstone) {
		err = fmt.Errorf("store: redis: acquire: %w: until %s", ErrQuarantine, until.Format(time.RFC3339))
	}
	return err
}
