package databases_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/redisstore"
	"github.com/atmostonce/atmostonce/txn"
)

// txnChild, in the environment, has a re-executed test binary do transfers.
const txnChild = "ATMOSTONCE_TEST_TXN_CHILD"

// work is what a child does: transfers, until it meets its end.
type work struct {
	Dialect txn.Dialect
	DSN     string
	File    string // directory of the guard's store
	Redis   string // or its address
	IDs     []string
	Own     bool // a transaction of one's own, with Done
	// Activity: it is an activity, and not a function.
	Activity bool
	// Point is where the child kills itself: "claimed", "written", "commit", "in commit",
	// "committed", "answered", "anywhere"; or what else happens to it: "lost" and "undone" are
	// commits without an answer. Nth is which time it comes there.
	Point string
	Nth   int64
	Delay time.Duration // of "in commit" and "anywhere"

	Patience time.Duration // with each transfer
}

type transferIn struct{ ID string }

// openRecords opens the guard's store.
func (w work) openRecords(t *testing.T) store.Store {
	t.Helper()
	if w.Redis != "" {
		rdb := redis.NewClient(&redis.Options{Addr: w.Redis})
		t.Cleanup(func() { _ = rdb.Close() })
		s, err := redisstore.New(rdb, redisstore.Options{})
		require.NoError(t, err)
		return s
	}
	s, err := store.NewFile(w.File, store.FileOptions{AnyFileSystem: true})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestTxnChild is the other process of the tests of kills. On its own it does nothing.
func TestTxnChild(t *testing.T) {
	text := os.Getenv(txnChild)
	if text == "" {
		return
	}
	var w work
	require.NoError(t, json.Unmarshal([]byte(text), &w))
	w.run(t)
}

func (w work) run(t *testing.T) {
	if w.Point == "anywhere" {
		time.AfterFunc(w.Delay, die)
	}
	var times atomic.Int64
	// at is what the child calls at each point.
	at := func(point string) {
		if point == w.Point && times.Add(1) == w.Nth {
			die()
		}
	}
	b := serverBusiness(w.Dialect, w.DSN)
	db, f := b.faulty(t)
	b.db = db
	d, err := txn.Open(t.Context(), db, txn.Options{})
	require.NoError(t, err)
	f.set(func(tx *faultyTx) error {
		at("commit")
		switch w.Point {
		case "in commit":
			if times.Add(1) == w.Nth {
				time.AfterFunc(w.Delay, die)
			}
		case "lost", "undone":
			if times.Add(1) != w.Nth {
				break
			}
			end := tx.Tx.Commit
			if w.Point == "undone" {
				end = tx.Tx.Rollback
			}
			fmt.Println("child fired") //nolint:forbidigo // to the parent
			return errors.Join(end(), io.ErrUnexpectedEOF)
		}
		err := tx.Tx.Commit()
		at("committed")
		return err
	}, nil)
	g, err := atmostonce.New(w.openRecords(t), atmostonce.Options{
		Lease: 300 * time.Millisecond, SettleDelay: time.Hour, HoldRetry: 50 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
		Defaults: once.Policy{OnDuplicate: once.Wait, InDoubt: d.Decides()},
	})
	require.NoError(t, err)
	transfer := atmostonce.Func(g, "transfer", once.Policy{Key: keys.From(func(in transferIn) string { return in.ID })}, w.body(b, d, at))
	require.NoError(t, g.Err())
	if w.Activity {
		transfer = attemptOf(t, activityGuard(t, w.openRecords(t), d, nil), w.body(b, d, at))
	}
	together(len(w.IDs), func(i int) {
		r, err := w.persist(t.Context(), transfer, w.IDs[i])
		if err != nil {
			t.Errorf("%s: %v", w.IDs[i], err)
			return
		}
		at("answered")
		fmt.Println("child done", r.ID, r.Of) //nolint:forbidigo // to the parent
	})
}

// die ends the process as a power failure would.
func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// persist calls until there is an answer.
func (w work) persist(ctx context.Context, transfer func(context.Context, transferIn) (receipt, error), id string) (receipt, error) {
	ctx, cancel := context.WithTimeout(ctx, w.Patience)
	defer cancel()
	for {
		r, err := transfer(ctx, transferIn{id})
		var refused *atmostonce.Error
		if err == nil || ctx.Err() != nil || errors.As(err, &refused) && refused.RetryAfter == 0 {
			return r, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (w work) body(b *business, d *txn.DB, at func(string)) func(context.Context, transferIn) (receipt, error) {
	write := func(ctx context.Context, tx *sql.Tx, id string) (receipt, error) {
		r, err := b.transfer(ctx, tx, id, "a", "b")
		r.Of = rand.Text()
		at("written")
		return r, err
	}
	return func(ctx context.Context, in transferIn) (receipt, error) {
		at("claimed")
		if !w.Own {
			return txn.Do(ctx, d, func(ctx context.Context, tx *sql.Tx) (receipt, error) { return write(ctx, tx, in.ID) })
		}
		tx, err := b.db.BeginTx(ctx, nil)
		if err != nil {
			return receipt{}, err
		}
		r, err := write(ctx, tx, in.ID)
		if err == nil {
			err = d.Done(ctx, tx, r)
		}
		if err != nil {
			return receipt{}, errors.Join(err, tx.Rollback())
		}
		return r, tx.Commit()
	}
}
