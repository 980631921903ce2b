package cli

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/redisstore"
)

// rounds is how often each race is run over each store.
const rounds = 1000

// racing are the stores, each for one test alone.
var racing = map[string]func(t *testing.T) store.Store{
	"memory": func(*testing.T) store.Store { return store.NewMemory(store.MemoryOptions{}) },
	"file": func(t *testing.T) store.Store {
		f, err := store.NewFile(filepath.Join(t.TempDir(), "store"), store.FileOptions{AnyFileSystem: true})
		require.NoError(t, err)
		t.Cleanup(func() { _ = f.Close() })
		return f
	},
	"redis": func(t *testing.T) store.Store {
		client := redis.NewClient(&redis.Options{Addr: startRedis(t)})
		t.Cleanup(func() { _ = client.Close() })
		s, err := redisstore.New(client, redisstore.Options{})
		require.NoError(t, err)
		return s
	},
}

// rival is who acts on a record at the same time as the operator. It reports whether
// it has won, which after says of the record, too.
type rival struct {
	ttl  time.Duration // of the record; 0: it does not expire meanwhile
	act  func(t *testing.T, s store.Store, b store.Bid, r store.Record) bool
	lost func(now store.Record) bool // how the record looks after the operator has won
	won  func(now store.Record) bool
}

// race has the operator and a rival act at about the same time, again and again: one of
// them wins, both know who, and nothing that was answered as done is lost.
func race(t *testing.T, v rival) {
	t.Helper()
	for name, open := range racing {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			var mu sync.Mutex
			wins := map[bool]int{}
			var all sync.WaitGroup
			const hands = 8
			for hand := range hands {
				all.Go(func() {
					for i := hand; i < rounds; i += hands {
						operator := v.once(t, s, fmt.Sprintf("%s-%d", name, i))
						mu.Lock()
						wins[operator]++
						mu.Unlock()
					}
				})
			}
			all.Wait()
			require.Equal(t, rounds, wins[true]+wins[false], "every round has one winner")
			require.Positive(t, wins[true], "the operator never wins")
			require.Positive(t, wins[false], "the rival never wins")
		})
	}
}

// once runs one race, and reports whether the operator has won.
func (v rival) once(t *testing.T, s store.Store, order string) bool {
	b := bidOf(order)
	if v.ttl != 0 {
		b.TTL, b.Lease, b.Deadline = v.ttl, v.ttl, v.ttl
	}
	b = claim(t, s, b)
	r, err := s.Settle(context.Background(), b, store.Outcome{State: store.InDoubt})
	require.NoError(t, err)
	began, result := make(chan struct{}), make(chan int)
	go func() {
		close(began)
		time.Sleep(time.Duration(rand.Int64N(int64(4*time.Millisecond + v.ttl)))) //nolint:forbidigo // it is a race
		result <- over(t, s).run("resolve", digestOf(order), "--failed", "no", "--reason", "INC-812", "--yes", "--revision", fmt.Sprint(r.Revision)).code
	}()
	<-began
	time.Sleep(time.Duration(rand.Int64N(int64(6 * time.Millisecond)))) //nolint:forbidigo // it is a race
	theirs := v.act(t, s, b, r)
	code := <-result
	now, err := s.Load(context.Background(), b.Key)
	require.NoError(t, err)
	switch code {
	case 0:
		require.False(t, theirs, "both have won")
		require.True(t, v.lost(now), "%+v", now)
		return true
	case codeMoved, codeNotFound:
		require.True(t, theirs || v.ttl != 0, "nobody has won")
		require.True(t, v.won(now), "%+v", now)
		return false
	}
	require.Fail(t, "the operator got neither yes nor no", "code %d", code)
	return false
}

func isDecision(r store.Record) bool { return r.State == store.Failed && r.By == store.ByOperator }

// The owner comes back with its success after all.
func TestRace_AgainstAHealingOwner(t *testing.T) {
	t.Parallel()
	race(t, rival{
		act: func(t *testing.T, s store.Store, b store.Bid, _ store.Record) bool {
			_, err := s.Settle(context.Background(), b, store.Outcome{State: store.Succeeded, Data: []byte("r")})
			require.True(t, err == nil || errors.Is(err, store.ErrConflict), err)
			return err == nil
		},
		lost: func(now store.Record) bool { // its success is kept as evidence
			last := now.History[len(now.History)-1]
			return isDecision(now) && last.What == store.TurnConflict
		},
		won: func(now store.Record) bool { return now.State == store.Succeeded && now.By == "" },
	})
}

// Another attempt takes over, as under Rerun.
func TestRace_AgainstATakeover(t *testing.T) {
	t.Parallel()
	race(t, rival{
		act: func(t *testing.T, s store.Store, b store.Bid, r store.Record) bool {
			b.Owner += ", attempt 2"
			b.Fence = 0
			_, err := s.Takeover(context.Background(), b, r)
			require.True(t, err == nil || errors.Is(err, store.ErrMoved), err)
			return err == nil
		},
		lost: isDecision,
		won:  func(now store.Record) bool { return now.State == store.Running },
	})
}

// Somebody else has the same alert.
func TestRace_AgainstAnotherOperator(t *testing.T) {
	t.Parallel()
	race(t, rival{
		act: func(t *testing.T, s store.Store, b store.Bid, r store.Record) bool {
			c := over(t, s)
			code := c.options.run(context.Background(), []string{"--disable-config-file", "--operator", "bob", "resolve", b.Key, "--done", "--no-result",
				"--reason", "INC-812", "--yes", "--revision", fmt.Sprint(r.Revision)}, c.surroundings())
			require.Contains(t, []int{0, codeMoved}, code)
			return code == 0
		},
		lost: isDecision,
		won:  func(now store.Record) bool { return now.State == store.Succeeded && now.By == store.ByOperator },
	})
}

// The record is forgotten meanwhile. A decision that was made is remembered.
func TestRace_AgainstExpiry(t *testing.T) {
	t.Parallel()
	race(t, rival{
		ttl:  40 * time.Millisecond,
		act:  func(*testing.T, store.Store, store.Bid, store.Record) bool { return false },
		lost: isDecision,
		won:  func(now store.Record) bool { return now.State == store.Absent },
	})
}
