package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/atmostonce/atmostonce/samples/internal/order"
	"github.com/atmostonce/atmostonce/samples/internal/provider"
	"github.com/atmostonce/atmostonce/store/sqlstore"
	"github.com/atmostonce/atmostonce/txn"
)

// books is the bank that is a table of PostgreSQL. Its faults are in a table beside
// it; workers strike themselves, as soon as a charge is committed.
type books struct {
	db   *sql.DB
	url  string
	copy string // of the ledger: the server is gone at the end
}

// openBooks makes the half's database with its tables. One of them is the guard's.
func (h *half) openBooks(ctx context.Context) (*books, error) {
	admin, err := sql.Open("pgx", h.postgres.DSN("postgres"))
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	if _, err := admin.ExecContext(ctx, "CREATE DATABASE "+h.name); err != nil {
		return nil, err
	}
	b := &books{url: h.postgres.DSN(h.name), copy: filepath.Join(h.dir, h.name+"-ledger.jsonl")}
	if b.db, err = sql.Open("pgx", b.url); err != nil {
		return nil, err
	}
	for _, table := range []string{order.BooksTable, "CREATE TABLE faults (order_id text PRIMARY KEY, fault text NOT NULL)"} {
		if _, err := b.db.ExecContext(ctx, table); err != nil {
			return nil, errors.Join(err, b.db.Close())
		}
	}
	if h.storeURL == "" {
		return b, nil
	}
	records, err := sqlstore.New(b.db, sqlstore.PostgreSQL, sqlstore.Options{})
	if err == nil {
		err = records.Migrate(ctx)
	}
	if err == nil {
		_, err = txn.Open(ctx, b.db, txn.Options{Apply: true})
	}
	if err != nil {
		return nil, errors.Join(err, b.db.Close())
	}
	return b, nil
}

func (b *books) String() string { return "the database" }

// Arm implements bank.
func (b *books) Arm(ctx context.Context, f provider.Fault) error {
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	_, err = b.db.ExecContext(ctx, "INSERT INTO faults (order_id, fault) VALUES ($1, $2)", f.Order, string(text))
	return err
}

// LetGo implements bank: whoever was held is dead, and its successor is spared.
func (b *books) LetGo(ctx context.Context, id string) error {
	_, err := b.db.ExecContext(ctx, "DELETE FROM faults WHERE order_id = $1", id)
	return err
}

// armed returns the fault that is to befall an order; none at all if Kind is empty.
func (b *books) armed(ctx context.Context, id string) (f provider.Fault, err error) {
	var text string
	err = b.db.QueryRowContext(ctx, "SELECT fault FROM faults WHERE order_id = $1", id).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return f, nil
	}
	if err != nil {
		return f, err
	}
	return f, json.Unmarshal([]byte(text), &f)
}

// strike reports a charge that was committed, and spoils its answer. Like many a
// client it does not give up when its caller does.
func (b *books) strike(reports *reporter) func(context.Context, order.Charge, order.Receipt) error {
	return func(ctx context.Context, c order.Charge, r order.Receipt) error {
		ctx = context.WithoutCancel(ctx)
		f, err := b.armed(ctx, c.OrderID)
		if err != nil {
			return err
		}
		reports.send(report{Kind: committed, Charge: &provider.Charge{
			ID: r.ID, Order: c.OrderID, Cents: c.Cents, Caller: os.Getpid(), At: time.Now(), Fault: f.Kind,
		}})
		if f.Kind == provider.Hold {
			select {} // until the signal
		}
		if err := b.LetGo(ctx, c.OrderID); err != nil {
			return err
		}
		switch f.Kind {
		case provider.Slow:
			<-time.After(f.Delay)
		case provider.Drop:
			return errors.New("the connection broke")
		}
		return nil
	}
}

func (b *books) charges(ctx context.Context) (all []provider.Charge, err error) {
	rows, err := b.db.QueryContext(ctx, "SELECT id, order_id, cents, caller FROM charges ORDER BY id")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var c provider.Charge
		var id int64
		if err := rows.Scan(&id, &c.Order, &c.Cents, &c.Caller); err != nil {
			return nil, err
		}
		c.ID = fmt.Sprintf("ch_%d", id)
		all = append(all, c)
	}
	return all, errors.Join(rows.Err(), b.keep(all))
}

// keep writes the ledger to a file, in the provider's form.
func (b *books) keep(all []provider.Charge) error {
	var text []byte
	for _, c := range all {
		line, err := json.Marshal(c)
		if err != nil {
			return err
		}
		text = append(append(text, line...), '\n')
	}
	return os.WriteFile(b.copy, text, 0o600)
}

func (b *books) flags() []string { return []string{"-books", b.url} }

func (b *books) stop() { _ = b.db.Close() }
