package databases_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	osexec "os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/txn"
)

var kills = flag.Int("kills", 60, "how many processes TestTxn_Kills kills, in all")

// fates are what happens to the children of a campaign.
var fates = []string{"claimed", "written", "commit", "in commit", "in commit", "in commit", "committed", "answered", "anywhere", "anywhere", "lost", "undone"}

// campaign kills children that make transfers, each until its transfers are made.
type campaign struct {
	*business
	work  work // of each child
	fates []string
	flush *redis.Client // flushed now and then, if not nil

	canary bool // children may fail, and the guard's store forgets each time

	mu      sync.Mutex
	ids     []string
	fired   map[string]int
	answers map[string]map[string]bool // by ID
}

// TestTxn_Kills: whatever happens to processes and their commits, each effect takes place
// exactly once, all answers are of that one, and nothing is left in doubt.
func TestTxn_Kills(t *testing.T) {
	t.Parallel()
	campaigns := map[string]func(t *testing.T) *business{"SQLite": newSQLiteBusiness, "PostgreSQL": newPostgresBusiness, "MariaDB": newMariaDBBusiness}
	for name, open := range campaigns {
		for _, records := range []string{"file", "Redis, flushed now and then"} {
			t.Run(name+", records in "+records, func(t *testing.T) {
				t.Parallel()
				c := newCampaign(t, open(t), records != "file")
				c.ledger(t, txn.Options{})
				c.run(t, (*kills+5)/6)
				c.report(t)
				for _, id := range c.ids {
					require.Equal(t, 1, c.effects(t, id), id)
					require.Len(t, c.answers[id], 1, "answers for %s", id)
				}
				require.Equal(t, 2000, c.sum(t))
				for r, err := range c.work.openRecords(t).List(t.Context(), store.Query{}) {
					require.NoError(t, err)
					require.NotContains(t, []store.State{store.InDoubt, store.Running}, r.State, r.Key)
				}
			})
		}
	}
}

// A marker without a primary key protects nothing: the campaign sees it. What Open tries
// is let pass here.
func TestTxn_KillsFindATableWithoutItsKey(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		open  func(t *testing.T) *business
		fate  string
		spoil func(t *testing.T, b *business)
	}{
		"no key, and the guard's store forgets": {newMariaDBBusiness, "answered", func(t *testing.T, b *business) {
			b.withoutKey(t)
			b.exec(t, "CREATE TRIGGER keyless BEFORE INSERT ON atmostonce_effects FOR EACH ROW "+
				"IF NEW.effect_key IN (SELECT effect_key FROM atmostonce_effects WHERE effect_key LIKE 'probe%') THEN SIGNAL SQLSTATE '23000' SET MYSQL_ERRNO = 1062; END IF")
		}},
		"markers under other keys": {newPostgresBusiness, "committed", func(t *testing.T, b *business) {
			b.exec(t, "CREATE FUNCTION keyless() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.effect_key NOT LIKE 'probe%' THEN NEW.effect_key := md5(random()::text); END IF; RETURN NEW; END $$")
			b.exec(t, "CREATE TRIGGER keyless BEFORE INSERT ON atmostonce_effects FOR EACH ROW EXECUTE FUNCTION keyless()")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCampaign(t, tc.open(t), tc.fate == "answered")
			c.ledger(t, txn.Options{})
			tc.spoil(t, c.business)
			c.fates, c.canary, c.work.Patience = []string{tc.fate}, true, time.Second
			c.run(t, 3)
			twice := 0
			for _, id := range c.ids {
				if c.effects(t, id) > 1 {
					twice++
				}
			}
			require.Positive(t, twice)
		})
	}
}

func newCampaign(t *testing.T, b *business, inRedis bool) *campaign {
	t.Helper()
	b.db = b.again(t)
	b.accounts(t)
	c := &campaign{business: b, fates: fates, fired: map[string]int{}, answers: map[string]map[string]bool{}}
	c.work = work{Dialect: b.dialect, DSN: b.dsn, File: t.TempDir(), Patience: time.Minute}
	if inRedis {
		c.work.Redis = startRedis(t)
		c.flush = redis.NewClient(&redis.Options{Addr: c.work.Redis})
		t.Cleanup(func() { _ = c.flush.Close() })
	}
	return c
}

// run goes on until so many children were killed.
func (c *campaign) run(t *testing.T, kills int) {
	var left sync.WaitGroup
	for worker := range 2 {
		left.Go(func() {
			for batch := 0; !t.Failed() && c.killed() < kills; batch++ {
				w := c.work
				for i := range 3 {
					w.IDs = append(w.IDs, fmt.Sprintf("%d-%d-%d", worker, batch, i))
				}
				w.Own = batch%3 == 2
				c.batch(t, w)
			}
		})
	}
	left.Wait()
	require.False(t, t.Failed())
}

func (c *campaign) killed() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for fate, times := range c.fired {
		if strings.HasPrefix(fate, "killed") {
			n += times
		}
	}
	return n
}

// batch has children make the same transfers, the last one undisturbed.
func (c *campaign) batch(t *testing.T, w work) {
	c.mu.Lock()
	c.ids = append(c.ids, w.IDs...)
	c.mu.Unlock()
	for range 1 + rand.IntN(5) {
		w.Point, w.Nth = c.fates[rand.IntN(len(c.fates))], 1+rand.Int64N(3)
		w.Delay = time.Duration(rand.Int64N(int64(2 * time.Millisecond)))
		if w.Point == "anywhere" {
			w.Delay = time.Duration(rand.Int64N(int64(80 * time.Millisecond)))
		}
		c.child(t, w)
		if c.flush != nil && (c.canary || rand.IntN(4) == 0) {
			if err := c.flush.FlushAll(t.Context()).Err(); err != nil {
				t.Error(err)
			}
			c.note("flushed Redis")
		}
	}
	w.Point = ""
	c.child(t, w)
}

func (c *campaign) note(fate string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fired[fate]++
}

// child runs a child to its end, whichever that is.
func (c *campaign) child(t *testing.T, w work) {
	text, err := json.Marshal(w)
	if err != nil {
		t.Error(err)
		return
	}
	cmd := osexec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestTxnChild$")
	cmd.Env = append(os.Environ(), txnChild+"="+string(text))
	out, err := cmd.CombinedOutput()
	var exit *osexec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		c.note("killed: " + w.Point)
	} else if err != nil && !c.canary {
		t.Errorf("the child: %v: %s", err, out)
	}
	if bytes.Contains(out, []byte("child fired")) {
		c.note("no answer: " + w.Point)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for line := range strings.Lines(string(out)) {
		var id, of string
		if n, _ := fmt.Sscanf(line, "child done %s %s\n", &id, &of); n == 2 {
			if c.answers[id] == nil {
				c.answers[id] = map[string]bool{}
			}
			c.answers[id][of] = true
		}
	}
}

func (c *campaign) report(t *testing.T) {
	t.Helper()
	t.Logf("%d effects; %d processes were killed", len(c.ids), c.killed())
	for _, fate := range slices.Sorted(maps.Keys(c.fired)) {
		t.Logf("%5d %s", c.fired[fate], fate)
	}
}

// startRedis starts a redis-server for the test alone and returns its address.
func startRedis(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	host, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	cmd := osexec.CommandContext(t.Context(), "redis-server", "--bind", host, "--port", port, "--dir", t.TempDir(),
		"--save", "", "--appendonly", "no", "--logfile", "log")
	require.NoError(t, cmd.Start(), "redis-server is not on PATH: apt-get install redis-server")
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { _ = rdb.Close() })
	require.Eventually(t, func() bool { return rdb.Ping(t.Context()).Err() == nil }, time.Minute, 5*time.Millisecond)
	return addr
}
