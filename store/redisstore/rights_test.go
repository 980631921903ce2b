package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/redisstore"
	"github.com/atmostonce/atmostonce/store/storetest"
)

// aclLine is the rule that the package's documentation gives, in words.
func aclLine(t *testing.T) []string {
	t.Helper()
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	lines := regexp.MustCompile(`(?m)^//\t((?:ACL SETUSER|    \+).*)$`).FindAllStringSubmatch(string(doc), -1)
	require.NotEmpty(t, lines)
	var words []string
	for i, l := range lines {
		require.Equal(t, i == 0, strings.HasPrefix(l[1], "ACL"))
		words = append(words, strings.Fields(l[1])...)
	}
	return words
}

// aclCommands are the commands that the line of the documentation grants.
func aclCommands(t *testing.T) []string {
	t.Helper()
	var commands []string
	for _, w := range aclLine(t) {
		if command, ok := strings.CutPrefix(w, "+"); ok {
			commands = append(commands, command)
		}
	}
	return commands
}

// setUser grants a user what the documentation says, changed by rules.
func setUser(t *testing.T, admin redis.UniversalClient, name string, rules ...string) {
	t.Helper()
	var args []any
	for _, w := range append(aclLine(t), rules...) {
		args = append(args, w)
	}
	args[2] = name
	require.NoError(t, admin.Do(t.Context(), args...).Err())
}

func asUser(name string) func(*redis.Options) {
	return func(o *redis.Options) { o.Username, o.Password = name, "PASSWORD" }
}

// The commands of the scripts are in the list that Check asks about, and that list
// is the documentation's.
func TestRedis_ScriptsUseTheCommandsOfTheList(t *testing.T) {
	t.Parallel()
	listed := append(redisstore.NeededCommands(), "info", "spublish") // the scripts do without
	called := regexp.MustCompile(`redis\.p?call\(\s*'([A-Za-z]+)'`)
	prepared := regexp.MustCompile(`\{'([A-Z]{2,})', KEYS`)
	files, err := filepath.Glob("lua/*.lua")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, m := range append(called.FindAllStringSubmatch(string(text), -1), prepared.FindAllStringSubmatch(string(text), -1)...) {
			require.Contains(t, listed, strings.ToLower(m[1]), file)
		}
		for _, line := range strings.Split(string(text), "\n") {
			if regexp.MustCompile(`redis\.p?call\(`).MatchString(line) && !called.MatchString(line) {
				require.Contains(t, line, "redis.call(unpack(c))", "%s: the command is not to be seen", file)
			}
		}
	}
	granted := aclCommands(t)
	for _, command := range redisstore.NeededCommands() {
		require.Contains(t, granted, command)
	}
	for _, command := range granted {
		require.Contains(t, append(redisstore.NeededCommands(), redisstore.UsefulCommands()...), command)
	}
}

// commandHook notes the commands that a client sends.
type commandHook struct {
	mu   sync.Mutex
	seen map[string]bool
}

func (h *commandHook) note(cmds ...redis.Cmder) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range cmds {
		h.seen[strings.ToLower(c.Name())] = true
	}
}

func (h *commandHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *commandHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.note(cmd)
		return next(ctx, cmd)
	}
}

func (h *commandHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.note(cmds...)
		return next(ctx, cmds)
	}
}

// A user who has what the documentation says, and no more, can do everything.
func TestRedis_DocumentedRightsAreEnough(t *testing.T) { //nolint:tparallel // it sums up
	t.Parallel()
	master := startServer(t)
	startReplica(t, master)
	setUser(t, dialRedis(t, master.addr), "atmostonce", "+wait")
	hook := &commandHook{seen: map[string]bool{}}
	client := dialRedis(t, master.addr, asUser("atmostonce"))
	client.AddHook(hook)
	open := func(prefix string, replicas int) *redisstore.Store {
		s, err := redisstore.New(client, redisstore.Options{Prefix: prefix, Replicas: replicas})
		require.NoError(t, err)
		return s
	}
	require.NoError(t, open("atmostonce:", 0).Check(t.Context()))
	require.NoError(t, open("atmostonce:", 1).Check(t.Context()))
	t.Run("contract", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) storetest.Harness {
			return storetest.Harness{Open: func(testing.TB) store.Store { return open("atmostonce:"+t.Name()+":", 0) }}
		})
	})
	s := open("atmostonce:replicated:", 1)
	_, err := s.Acquire(t.Context(), redisBid("k", "a"))
	require.NoError(t, err)
	_, err = s.Settle(t.Context(), redisBid("k", "a"), redisDone)
	require.NoError(t, err)
	require.ErrorIs(t, s.Clear(t.Context()), store.ErrDenied, "only tests clear")

	allowed := append(redisstore.NeededCommands(), append(redisstore.UsefulCommands(), "wait", "hello", "client")...) // the last is the client's own
	for _, command := range slices.Sorted(maps.Keys(hook.seen)) {
		require.Contains(t, allowed, command)
	}
}

// Whatever command a user lacks, Check says so, and a call that is refused leaves
// the record as it was.
func TestRedis_CheckNamesEachMissingRight(t *testing.T) {
	t.Parallel()
	ctx, addr := t.Context(), startRedis(t)
	admin := dialRedis(t, addr)
	for _, command := range redisstore.NeededCommands() {
		name := "no-" + command
		setUser(t, admin, name, "-"+command)
		s := newRedis(t, dialRedis(t, addr, asUser(name)))
		err := s.Check(ctx)
		require.ErrorIs(t, err, store.ErrDenied, command)
		require.ErrorIs(t, err, store.ErrUnsafe, command)
		require.NotErrorIs(t, err, store.ErrUnverified, command)
		require.ErrorContains(t, err, command)
		require.ErrorContains(t, err, "ACL SETUSER "+name+" ~atmostonce:* +eval +evalsha ")
		// What it advises is enough.
		_, advice, _ := strings.Cut(err.Error(), "ACL SETUSER ")
		advice, _, _ = strings.Cut(advice, ": NOPERM")
		args := []any{"ACL", "SETUSER"}
		for _, w := range strings.Fields(advice) {
			args = append(args, w)
		}
		require.NoError(t, admin.Do(ctx, args...).Err())
		require.NoError(t, s.Check(ctx), command)
	}
	for _, pattern := range []string{"~other:*", "~atmostonce:{*", "%R~atmostonce:*", "~atmostonce:witness*"} {
		setUser(t, admin, "pattern", "resetkeys", pattern)
		err := newRedis(t, dialRedis(t, addr, asUser("pattern"))).Check(ctx)
		require.ErrorIs(t, err, store.ErrDenied, pattern)
		require.ErrorContains(t, err, "~atmostonce:*", pattern)
	}
	setUser(t, admin, "few")
	s, err := redisstore.New(dialRedis(t, addr, asUser("few")), redisstore.Options{Replicas: 1})
	require.NoError(t, err)
	require.ErrorContains(t, s.Check(ctx), "lacks wait,", "Replicas needs it")
}

// redisSituations are records as verbs meet them: each is made by an owner a.
var redisSituations = map[string]func(t *testing.T, s *redisstore.Store, b store.Bid){
	"absent":  func(*testing.T, *redisstore.Store, store.Bid) {},
	"running": func(t *testing.T, s *redisstore.Store, b store.Bid) { mustAcquire(t, s, b) },
	"over": func(t *testing.T, s *redisstore.Store, b store.Bid) {
		b.Lease, b.Owner = time.Millisecond, "o"
		mustAcquire(t, s, b)
		require.Eventually(t, func() bool {
			r, err := s.Load(t.Context(), b.Key)
			return err == nil && r.Now.After(r.LeaseEnd)
		}, time.Minute, time.Millisecond)
	},
	"in doubt": func(t *testing.T, s *redisstore.Store, b store.Bid) {
		mustAcquire(t, s, b)
		mustSettle(t, s, b, store.Outcome{State: store.InDoubt, Data: []byte("e"), Context: "c"})
	},
	"succeeded": func(t *testing.T, s *redisstore.Store, b store.Bid) {
		mustAcquire(t, s, b)
		mustSettle(t, s, b, redisDone)
	},
	"released": func(t *testing.T, s *redisstore.Store, b store.Bid) {
		mustAcquire(t, s, b)
		_, err := s.Release(t.Context(), b)
		require.NoError(t, err)
	},
	"reopened": func(t *testing.T, s *redisstore.Store, b store.Bid) {
		first := b
		first.Owner = "first"
		mustAcquire(t, s, first)
		r := mustSettle(t, s, first, redisDone)
		_, err := s.Resolve(t.Context(), b.Key, r, store.Resolution{ID: "r", To: store.Tombstone, By: store.ByOperator, Who: "ann", Why: "why", TTL: b.TTL})
		require.NoError(t, err)
		require.EqualValues(t, 1, mustAcquire(t, s, b).Generation)
	},
	"kept": func(t *testing.T, s *redisstore.Store, b store.Bid) {
		mustAcquire(t, s, b)
		r := mustSettle(t, s, b, store.Outcome{State: store.InDoubt})
		second := b
		second.Owner = "second"
		_, err := s.Takeover(t.Context(), second, r)
		require.NoError(t, err)
		_, err = s.Settle(t.Context(), b, redisDone)
		require.ErrorIs(t, err, store.ErrConflict)
	},
}

func mustAcquire(t *testing.T, s *redisstore.Store, b store.Bid) store.Record {
	t.Helper()
	r, err := s.Acquire(t.Context(), b)
	require.NoError(t, err)
	return r
}

func mustSettle(t *testing.T, s *redisstore.Store, b store.Bid, o store.Outcome) store.Record {
	t.Helper()
	r, err := s.Settle(t.Context(), b, o)
	require.NoError(t, err)
	return r
}

// Rights that are taken away while a process runs stop a call before its first
// write, or after one that does no harm alone: a later expiry.
func TestRedis_ALostRightLeavesNoHalfARecord(t *testing.T) {
	t.Parallel()
	ctx, addr := t.Context(), startRedis(t)
	admin := dialRedis(t, addr)
	asAdmin, n := newRedis(t, admin), 0
	long := func(b store.Bid) store.Bid {
		b.TTL *= 3
		return b
	}
	for _, command := range redisstore.NeededCommands() {
		name := "no-" + command
		setUser(t, admin, name, "-"+command)
		s := newRedis(t, dialRedis(t, addr, asUser(name)))
		for situation, prepare := range redisSituations {
			for _, owner := range []string{"a", "second", "o", "stranger"} {
				for verb := range redisVerbs(s, store.Bid{}, store.Record{}) {
					n++
					b := redisBid(fmt.Sprintf("key %d", n), "a")
					prepare(t, asAdmin, b)
					from, err := asAdmin.Load(ctx, b.Key)
					require.NoError(t, err)
					before, ends := admin.Get(ctx, redisName(b.Key)).Val(), admin.PExpireTime(ctx, redisName(b.Key)).Val()
					b.Owner = owner
					got, err := redisVerbs(s, long(b), from)[verb](ctx)
					where := fmt.Sprintf("%s by %s of a record %s, without %s", verb, owner, situation, command)
					after := admin.Get(ctx, redisName(b.Key)).Val()
					if err == nil || got.State != store.Absent || errors.Is(err, store.ErrGone) || errors.Is(err, store.ErrMoved) {
						continue // it did without the command
					}
					require.ErrorIs(t, err, store.ErrDenied, where)
					require.ErrorContains(t, err, command, where)
					require.Equal(t, before, after, where)
					if len(before) > 0 {
						require.GreaterOrEqual(t, admin.PExpireTime(ctx, redisName(b.Key)).Val(), ends, where)
					}
				}
			}
		}
	}
}

// A listing that the server refuses says which command is missing, and does not call
// the index corrupt.
func TestRedis_ListNamesAMissingRight(t *testing.T) {
	t.Parallel()
	addr := startRedis(t)
	admin := dialRedis(t, addr)
	mustAcquire(t, newRedis(t, admin), redisBid("k", "a"))
	require.NotEmpty(t, listOpen(t, newRedis(t, admin), store.Running))
	for _, command := range []string{"zscore", "zrange", "get", "evalsha"} {
		name := "no-" + command
		setUser(t, admin, name, "-"+command)
		s, failures := newRedis(t, dialRedis(t, addr, asUser(name))), 0
		for _, err := range s.List(t.Context(), store.Query{State: store.Running}) {
			require.ErrorIs(t, err, store.ErrDenied, command)
			require.NotErrorIs(t, err, store.ErrCorrupt, command)
			failures++
		}
		require.Equal(t, 1, failures, command)
	}
}
