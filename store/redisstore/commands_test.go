package redisstore_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
)

// tripHook notes what a client sends: the commands of each round trip.
type tripHook struct {
	mu    sync.Mutex
	trips []string
}

func (h *tripHook) note(cmds ...redis.Cmder) {
	var names []string
	for _, c := range cmds {
		names = append(names, c.Name())
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trips = append(h.trips, strings.Join(names, " "))
}

// since returns the round trips since it was last asked.
func (h *tripHook) since() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	trips := h.trips
	h.trips = nil
	return trips
}

func (h *tripHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *tripHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.note(cmd)
		return next(ctx, cmd)
	}
}

func (h *tripHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.note(cmds...)
		return next(ctx, cmds)
	}
}

// What each path costs: the round trips of the client, and the commands that the server
// runs for them, those of scripts among them.
func TestRedis_CommandsOfEachPath(t *testing.T) { //nolint:tparallel // its paths share a server's counters
	t.Parallel()
	addr := startRedis(t)
	admin, client, hook := dialRedis(t, addr), dialRedis(t, addr), &tripHook{}
	s, other := newRedis(t, client), newRedis(t, admin)
	require.NoError(t, s.Check(t.Context()))
	client.AddHook(hook)
	for _, situation := range slices.Sorted(maps.Keys(redisSituations)) { // the server knows the scripts now
		b := redisBid("warm/"+situation, "a")
		redisSituations[situation](t, s, b)
		for _, call := range redisVerbs(s, b, store.Record{}) {
			_, _ = call(t.Context())
		}
	}
	for _, c := range []struct {
		path, situation, owner, verb string
		trips                        []string
		commands                     string
	}{
		{"a claim", "absent", "a", "Acquire", []string{"evalsha"}, "evalsha get set time zadd"},
		{"a settle", "running", "a", "Settle", []string{"evalsha"}, "evalsha get pexpiretime set spublish time zrem"},
		{"a renewal", "running", "a", "Renew", []string{"evalsha"}, "evalsha get pexpiretime set time"},
		{"a duplicate", "succeeded", "b", "Acquire", []string{"get pexpiretime pttl pexpiretime"}, "get 2*pexpiretime pttl"},
		{"a refusal in flight", "running", "b", "Acquire", []string{"evalsha"}, "evalsha get pexpiretime time zadd"},
		{"a refusal in doubt", "in doubt", "b", "Acquire", []string{"evalsha"}, "evalsha get pexpiretime time zadd"},
		{"a release", "running", "a", "Release", []string{"evalsha"}, "evalsha get pexpiretime set spublish time zrem"},
		{"a retry after a release", "released", "b", "Acquire", []string{"evalsha"}, "evalsha get pexpiretime set time zadd"},
		{"a takeover", "in doubt", "b", "Takeover", []string{"evalsha"}, "evalsha get pexpiretime set spublish time zadd"},
		{"a lease that is over", "over", "b", "Acquire", []string{"evalsha"}, "evalsha get pexpiretime set spublish time zadd"},
		{"a look", "succeeded", "b", "Load", []string{"evalsha"}, "evalsha get pexpiretime time"},
	} {
		t.Run(c.path, func(t *testing.T) {
			b := redisBid(c.path, "a")
			redisSituations[c.situation](t, s, b)
			if c.situation == "in doubt" || c.situation == "released" {
				b = redisBid(c.path+" of a stranger", "a") // this process has not met it
				redisSituations[c.situation](t, other, b)
			}
			from, err := other.Load(t.Context(), b.Key)
			require.NoError(t, err)
			b.Owner = c.owner
			call := redisVerbs(s, b, from)[c.verb]
			hook.since()
			require.NoError(t, admin.ConfigResetStat(t.Context()).Err())
			_, err = call(t.Context())
			require.NoError(t, err)
			require.Equal(t, c.trips, hook.since())
			require.Equal(t, c.commands, commandsRun(t, admin))
		})
	}
	t.Run("a wait", func(t *testing.T) {
		redisSituations["running"](t, other, redisBid("a wait", "a"))
		_, err := s.Acquire(t.Context(), redisBid("a wait", "b"))
		require.NoError(t, err)
		hook.since()
		r, err := s.Acquire(t.Context(), redisBid("a wait", "c"))
		require.NoError(t, err)
		require.True(t, r.Owned("a"))
		require.Equal(t, []string{"get pexpiretime pttl pexpiretime"}, hook.since(), "it has been met")
	})
	t.Run("renewals", func(t *testing.T) {
		var bids []store.Bid
		for i := range 100 {
			bids = append(bids, redisBid(fmt.Sprint("renewals/", i), "a"))
			mustAcquire(t, s, bids[i])
		}
		hook.since()
		for _, r := range s.RenewAll(t.Context(), bids) {
			require.NoError(t, r.Err)
		}
		require.Len(t, hook.since(), 1)
	})
}

// commandsRun returns the commands that the server has run since its statistics were
// reset, in alphabetic order, with how often if that is more than once.
func commandsRun(tb testing.TB, client *redis.Client) string {
	tb.Helper()
	stats, err := client.InfoMap(tb.Context(), "commandstats").Result()
	require.NoError(tb, err)
	times := map[string]string{}
	for name, fields := range stats["Commandstats"] {
		name = strings.TrimPrefix(name, "cmdstat_")
		if calls, _, _ := strings.Cut(strings.TrimPrefix(fields, "calls="), ","); calls != "1" {
			times[name] = calls + "*"
		} else if name != "config|resetstat" && name != "info" {
			times[name] = ""
		}
	}
	var commands []string
	for _, name := range slices.Sorted(maps.Keys(times)) {
		commands = append(commands, times[name]+name)
	}
	return strings.Join(commands, " ")
}

// What calls that meet nothing unusual take of the process's memory; the client's part
// is in it.
func TestRedis_AllocationsOfEachPath(t *testing.T) {
	s := newRedis(t, dialRedis(t, startRedis(t)))
	n := 0
	first := func() {
		n++
		if err := firstRun(t.Context(), s, fmt.Sprint("k/", n)); err != nil {
			t.Error(err)
		}
	}
	duplicate := func() {
		if _, err := s.Acquire(t.Context(), guardBid("k/1")); err != nil {
			t.Error(err)
		}
	}
	for path, c := range map[string]struct {
		run  func()
		most float64
	}{"a first run": {first, 75}, "a duplicate": {duplicate, 50}} {
		first()
		duplicate()
		got := testing.AllocsPerRun(200, c.run)
		t.Logf("%s: %v allocations", path, got)
		require.LessOrEqual(t, got, c.most, path)
	}
}

// RenewAll answers for each bid as Renew does.
func TestRedis_RenewAllIsRenew(t *testing.T) {
	t.Parallel()
	client := dialRedis(t, startRedis(t))
	s := newRedis(t, client)
	var bids []store.Bid
	for _, situation := range slices.Sorted(maps.Keys(redisSituations)) {
		for _, owner := range []string{"a", "b", "o"} {
			b := redisBid(situation+"/"+owner, "a")
			redisSituations[situation](t, s, b)
			b.Owner = owner
			bids = append(bids, b)
		}
	}
	invalid := redisBid("", "a")
	broken := redisBid("broken", "a")
	require.NoError(t, client.Set(t.Context(), redisName("broken"), "x", 0).Err())
	bids = append(bids, invalid, broken)
	require.NoError(t, client.ScriptFlush(t.Context()).Err())
	all := s.RenewAll(t.Context(), bids)
	require.Len(t, all, len(bids))
	for i, b := range bids {
		r, err := s.Renew(t.Context(), b)
		require.Equal(t, fmt.Sprint(err), fmt.Sprint(all[i].Err), b.Key)
		require.Equal(t, r.State, all[i].Record.State, b.Key)
		require.Equal(t, r.Owner, all[i].Record.Owner, b.Key)
	}
	require.ErrorIs(t, all[len(all)-2].Err, store.ErrInvalid)
	require.ErrorIs(t, all[len(all)-1].Err, store.ErrCorrupt)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, r := range s.RenewAll(ended, bids[:1]) {
		require.ErrorIs(t, r.Err, context.Canceled)
	}
}

// Calls at once share round trips, and each has its own answer.
func TestRedis_CallsAtOnceShareRoundTrips(t *testing.T) {
	t.Parallel()
	const callers, each = 64, 20
	addr, hook := startRedis(t), &tripHook{}
	client, admin := dialRedis(t, addr), dialRedis(t, addr)
	s := newRedis(t, client)
	require.NoError(t, firstRun(t.Context(), s, "the server knows the scripts now"))
	client.AddHook(hook)
	var all sync.WaitGroup
	for c := range callers {
		all.Go(func() {
			for i := range each {
				b := redisBid(fmt.Sprint(c, "/", i), "a")
				if i%5 == 4 {
					b.Key = "contended"
				}
				if c == 0 && i%5 == 2 { // the others of its batch need the script again
					if err := admin.ScriptFlush(t.Context()).Err(); err != nil {
						t.Error(err)
					}
				}
				r, err := s.Acquire(t.Context(), b)
				if err == nil && r.Key != b.Key {
					err = fmt.Errorf("the answer is that about %s", r.Key)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	require.Less(t, len(hook.since()), callers*each/2)
}

// Who waits for a batch leaves with its context, and one that has left is not sent.
func TestRedis_BatchedCallsEndWithTheirContext(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	client := dialRedis(t, server.addr, func(o *redis.Options) { o.ContextTimeoutEnabled = true })
	s, direct := newRedis(t, client), newRedis(t, dialRedis(t, server.addr))
	require.NoError(t, firstRun(t.Context(), s, "the server knows the scripts now"))
	server.pause()
	var all sync.WaitGroup
	patient, cancelPatient := context.WithTimeout(t.Context(), time.Minute)
	defer cancelPatient()
	for i := range 2 { // as many as may be under way
		all.Go(func() { _, _ = s.Acquire(patient, redisBid(fmt.Sprint("under way/", i), "a")) })
	}
	short, cancel := context.WithCancel(t.Context())
	errs := make(chan error, 1)
	<-time.After(100 * time.Millisecond)
	all.Go(func() {
		_, err := s.Acquire(short, redisBid("left", "a"))
		errs <- err
	})
	<-time.After(100 * time.Millisecond)
	cancel()
	require.ErrorIs(t, <-errs, context.Canceled, "the server still hangs")
	server.resume()
	all.Wait()
	require.NoError(t, firstRun(t.Context(), s, "later"))
	r, err := direct.Load(t.Context(), "left")
	require.NoError(t, err)
	require.Equal(t, store.Absent, r.State)
}
