package order_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/samples/internal/order"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/txn"
)

var book = order.Order{ID: "order-1", Item: "book", Cents: 1200}

// saga runs the workflow with these answers of its steps, and returns the names
// of the activities that it called.
func saga(t *testing.T, charge, ship error) (called []string, c order.Confirmation, err error) {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	payments, warehouse := &order.Payments{}, &order.Warehouse{}
	env.RegisterWorkflow(order.Workflow)
	env.RegisterActivity(payments)
	env.RegisterActivity(warehouse)
	step := func(name string) func(mock.Arguments) {
		return func(mock.Arguments) { called = append(called, name) }
	}
	env.OnActivity(warehouse.ReserveStock, mock.Anything, book).Run(step("reserve")).Return(nil)
	env.OnActivity(warehouse.ReleaseStock, mock.Anything, book).Run(step("release")).Return(nil)
	env.OnActivity(warehouse.ShipOrder, mock.Anything, book).Run(step("ship")).Return("parcel", ship)
	env.OnActivity(payments.ChargeCard, mock.Anything, order.Charge{OrderID: book.ID, Cents: book.Cents}).
		Run(step("charge")).Return(order.Receipt{ID: "ch_1", Cents: book.Cents}, charge)
	env.OnActivity(payments.RefundCard, mock.Anything, book.ID).Run(step("refund")).Return(nil)

	env.ExecuteWorkflow(order.Workflow, book)
	require.True(t, env.IsWorkflowCompleted())
	if err = env.GetWorkflowError(); err == nil {
		require.NoError(t, env.GetWorkflowResult(&c))
	}
	return called, c, err
}

func TestWorkflow_ReservesChargesShips(t *testing.T) {
	t.Parallel()
	called, c, err := saga(t, nil, nil)
	require.NoError(t, err)
	require.Equal(t, []string{"reserve", "charge", "ship"}, called)
	require.Equal(t, order.Confirmation{Charge: "ch_1", Tracking: "parcel"}, c)
}

func TestWorkflow_ReleasesStockWhenTheCardIsDeclined(t *testing.T) {
	t.Parallel()
	called, _, err := saga(t, temporal.NewNonRetryableApplicationError("declined", "Declined", nil), nil)
	require.ErrorContains(t, err, "declined")
	require.Equal(t, []string{"reserve", "charge", "release"}, called)
}

func TestWorkflow_RefundsAChargeThatMayHaveHappened(t *testing.T) {
	t.Parallel()
	called, _, err := saga(t, temporal.NewNonRetryableApplicationError("nobody knows", "atmostonce.InDoubt", nil), nil)
	require.ErrorContains(t, err, "nobody knows")
	require.Equal(t, []string{"reserve", "charge", "refund", "release"}, called)
}

func TestWorkflow_RefundsWhatCannotBeShipped(t *testing.T) {
	t.Parallel()
	called, _, err := saga(t, nil, temporal.NewNonRetryableApplicationError("out of stock", "Gone", nil))
	require.ErrorContains(t, err, "out of stock")
	require.Equal(t, []string{"reserve", "charge", "ship", "refund", "release"}, called)
}

func TestGuard_AcceptsItsMarks(t *testing.T) {
	t.Parallel()
	guard, err := order.Guard(store.NewMemory(store.MemoryOptions{}), &order.Payments{}, interceptor.Options{})
	require.NoError(t, err)
	require.NotNil(t, guard)
}

func TestGuardBooks_AcceptsItsMarks(t *testing.T) {
	t.Parallel()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "books.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	ledger, err := txn.Open(t.Context(), db, txn.Options{Apply: true})
	require.NoError(t, err)
	guard, err := order.GuardBooks(store.NewMemory(store.MemoryOptions{}), &order.Books{DB: db, Ledger: ledger}, interceptor.Options{})
	require.NoError(t, err)
	require.NotNil(t, guard)
}
