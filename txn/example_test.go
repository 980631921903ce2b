package txn_test

import (
	"context"
	"database/sql"
	"log"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/txn"
)

type Order struct {
	ID    string
	Cents int64
}

type Receipt struct{ Number int64 }

// A charge is a row of the ledger of charges: it happens exactly once for each order.
func ExampleDo() {
	ctx := context.Background()
	db, err := sql.Open("pgx", "postgres://shop@localhost/shop") // with a driver of your choice
	if err != nil {
		log.Fatalln(err)
	}
	ledger, err := txn.Open(ctx, db, txn.Options{})
	if err != nil {
		log.Fatalln(err)
	}
	records, err := store.NewFile("charges", store.FileOptions{})
	if err != nil {
		log.Fatalln(err)
	}
	guard, err := atmostonce.New(records, atmostonce.Options{})
	if err != nil {
		log.Fatalln(err)
	}
	policy := once.Policy{
		Key:     keys.From(func(o Order) string { return o.ID }),
		Scope:   keys.PerNamespace,
		InDoubt: ledger.Decides(),
	}
	charge := atmostonce.Func(guard, "charge", policy, func(ctx context.Context, o Order) (Receipt, error) {
		return txn.Do(ctx, ledger, func(ctx context.Context, tx *sql.Tx) (r Receipt, err error) {
			err = tx.QueryRowContext(ctx, "INSERT INTO charges (order_id, cents) VALUES ($1, $2) RETURNING number", o.ID, o.Cents).Scan(&r.Number)
			return r, err
		})
	})
	if _, err := charge(ctx, Order{ID: "7", Cents: 1200}); err != nil {
		log.Fatalln(err)
	}
}

// A transaction of your own, which ends with the marker and the commit.
func ExampleDB_Done() {
	transfer := func(ctx context.Context, ledger *txn.DB, db *sql.DB, o Order) (Receipt, error) {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return Receipt{}, err
		}
		defer tx.Rollback() //nolint:errcheck // after Commit there is nothing to roll back
		var r Receipt
		if err := tx.QueryRowContext(ctx, "INSERT INTO charges (order_id, cents) VALUES ($1, $2) RETURNING number", o.ID, o.Cents).Scan(&r.Number); err != nil {
			return Receipt{}, err
		}
		if err := ledger.Done(ctx, tx, r); err != nil {
			return Receipt{}, err
		}
		return r, tx.Commit()
	}
	_ = transfer
}
