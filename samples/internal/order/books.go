package order

import (
	"context"
	"database/sql"
	"fmt"
	"os"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/txn"
)

// BooksTable makes the table of charges, in PostgreSQL.
const BooksTable = `CREATE TABLE charges (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, order_id text NOT NULL, cents bigint NOT NULL, caller bigint NOT NULL)`

// Books are the activities that move money, in place of Payments, where a charge
// is a row of your own database.
type Books struct {
	DB     *sql.DB
	Ledger *txn.DB // of the guard; nil: unguarded
	// Booked, if not nil, is called with each charge that is committed: for what may go
	// wrong then.
	Booked func(context.Context, Charge, Receipt) error
}

// ChargeCard books a charge, each time it runs.
func (b *Books) ChargeCard(ctx context.Context, c Charge) (Receipt, error) {
	book := func(ctx context.Context, tx *sql.Tx) (Receipt, error) {
		var id int64
		err := tx.QueryRowContext(ctx, "INSERT INTO charges (order_id, cents, caller) VALUES ($1, $2, $3) RETURNING id",
			c.OrderID, c.Cents, os.Getpid()).Scan(&id)
		return Receipt{fmt.Sprintf("ch_%d", id), c.Cents}, err
	}
	receipt, err := b.transact(ctx, book)
	if err == nil && b.Booked != nil {
		err = b.Booked(ctx, c, receipt)
	}
	return receipt, err
}

// transact runs book in a transaction. txn.Do is what the guarded activity has
// beyond the other one.
func (b *Books) transact(ctx context.Context, book func(context.Context, *sql.Tx) (Receipt, error)) (Receipt, error) {
	if b.Ledger != nil {
		return txn.Do(ctx, b.Ledger, book)
	}
	tx, err := b.DB.BeginTx(ctx, nil)
	if err != nil {
		return Receipt{}, err
	}
	defer func() { _ = tx.Rollback() }() // of what is not committed
	receipt, err := book(ctx, tx)
	if err != nil {
		return Receipt{}, err
	}
	return receipt, tx.Commit()
}

// RefundCard books back what was charged for an order, if it was not before: it
// needs no guard.
func (b *Books) RefundCard(ctx context.Context, orderID string) error {
	_, err := b.DB.ExecContext(ctx, `INSERT INTO charges (order_id, cents, caller)
		SELECT order_id, -sum(cents), $2 FROM charges WHERE order_id = $1 GROUP BY order_id HAVING sum(cents) > 0`, orderID, os.Getpid())
	return err
}

// GuardBooks is Guard, for Books.
func GuardBooks(s store.Store, b *Books, o interceptor.Options) (*interceptor.Guard, error) {
	o.Activities = append(o.Activities, once.Mark(once.Policy{
		Key:         keys.From(func(c Charge) string { return c.OrderID }),
		Scope:       keys.PerNamespace,  // one charge per order, whichever workflow asks
		OnDuplicate: once.Wait,          // while another attempt is at it
		InDoubt:     b.Ledger.Decides(), // the worker died? its row is there, or it never will be
	}, b.ChargeCard)...)
	return interceptor.New(s, o)
}
