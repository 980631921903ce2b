// Command transfer moves money between two accounts exactly once, although the process that
// does it is killed: accounts, markers and the guard's records are in one SQLite file.
//
//	go run ./plain/transfer
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store/sqlstore"
	"github.com/atmostonce/atmostonce/txn"
)

// transfer moves 300 from ann to bob, once for each ID, and returns what they have then.
// At the place dieAt it kills this process.
func transfer(ctx context.Context, file, id, dieAt string) (balances string, sum int, err error) {
	reach := func(place string) {
		if place == dieAt {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	}
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return "", 0, err
	}
	defer db.Close()
	records, invalid := sqlstore.New(db, sqlstore.SQLite, sqlstore.Options{})
	ledger, closed := txn.Open(ctx, db, txn.Options{Apply: true})
	_, err = db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS accounts AS SELECT 'ann' AS name, 1000 AS cents UNION SELECT 'bob', 0")
	if err := errors.Join(invalid, closed, err); err != nil {
		return "", 0, err
	}
	guard, invalid := atmostonce.New(records, atmostonce.Options{Lease: time.Second}) // then a silent process is taken for dead
	if err := errors.Join(invalid, records.Migrate(ctx)); err != nil {
		return "", 0, err
	}
	move := atmostonce.Func(guard, "transfer", once.Policy{OnDuplicate: once.Wait, InDoubt: ledger.Decides()}, func(ctx context.Context, id string) (string, error) {
		defer reach("after the commit")
		return txn.Do(ctx, ledger, func(ctx context.Context, tx *sql.Tx) (string, error) {
			_, debit := tx.ExecContext(ctx, "UPDATE accounts SET cents = cents - 300 WHERE name = 'ann'")
			reach("between debit and credit")
			_, credit := tx.ExecContext(ctx, "UPDATE accounts SET cents = cents + 300 WHERE name = 'bob'")
			return "receipt of " + id, errors.Join(debit, credit)
		})
	})
	_, failed := move(ctx, id)
	err = db.QueryRowContext(ctx, "SELECT group_concat(name || ' has ' || cents, ', '), sum(cents) FROM accounts").Scan(&balances, &sum)
	return balances, sum, errors.Join(failed, err, guard.Close(ctx))
}

func main() {
	if len(os.Args) == 4 {
		_, _, err := transfer(context.Background(), os.Args[1], os.Args[2], os.Args[3])
		log.Fatalln("transfer: this process was to die:", err)
	}
	dir, err := os.MkdirTemp("", "transfer")
	file := filepath.Join(dir, "bank.db")
	for i, place := range []string{"between debit and credit", "after the commit"} {
		id := fmt.Sprint("transfer-", i+1)
		died := exec.CommandContext(context.Background(), os.Args[0], file, id, place).Run()
		balances, sum, failed := transfer(context.Background(), file, id, "")
		fmt.Printf("%s: a first process died %s (%v); then %s, the sum is %d\n", id, place, died, balances, sum)
		err = errors.Join(err, failed)
	}
	if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
		log.Fatalln("transfer:", err)
	}
}
