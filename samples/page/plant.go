package main

import (
	"context"
	"fmt"
	"time"

	"github.com/atmostonce/atmostonce/store"
)

// plant leaves records as a shop's workers do: one in doubt since its worker died, some
// since their workers do not know, some that run or wait, many that have ended.
func plant(ctx context.Context, s store.Store) error {
	n := 0
	for _, p := range []struct {
		activity string
		count    int
		to       store.State
	}{
		{"ChargeCard", 2, store.InDoubt},
		{"SendReceipt", 1, store.InDoubt},
		{"ChargeCard", 3, store.Running},
		{"BookParcel", 2, store.Pending},
		{"ChargeCard", 40, store.Succeeded},
		{"SendReceipt", 30, store.Succeeded},
		{"BookParcel", 1, store.Failed},
		{"SendReceipt", 1, store.Tombstone},
	} {
		for range p.count {
			n++
			if err := put(ctx, s, n, p.activity, p.to); err != nil {
				return err
			}
		}
	}
	return nil
}

// put leaves one record.
func put(ctx context.Context, s store.Store, n int, activity string, to store.State) error {
	order := fmt.Sprint("order-", 1000+n)
	bid := store.Bid{
		Key: "v1/shop/w:" + order + "/" + activity + "/k:" + order, Owner: fmt.Sprint("nonce-", n), Lease: time.Minute,
		TTL: 30 * 24 * time.Hour, Deadline: 5 * time.Minute, Began: true,
		Info: store.Info{
			Activity: activity, Trace: fmt.Sprintf("00-%032x-%016x-01", 0x5eed<<40+n, n),
			Holder: store.Holder{
				Namespace: "shop", WorkflowID: order, RunID: fmt.Sprintf("01a220b2-5a1e-7c4f-9d00-%012x", n), ActivityID: "5",
				Attempt: 1, Worker: "19102@payments-7f9c",
			},
		},
	}
	r, err := s.Acquire(ctx, bid)
	if err != nil {
		return err
	}
	bid.Fence = r.Fence
	switch to {
	case store.Running:
		return nil
	case store.Tombstone:
		_, err = s.Release(ctx, bid)
	case store.InDoubt, store.Pending:
		_, err = s.Settle(ctx, bid, store.Outcome{State: to})
	default:
		_, err = s.Settle(ctx, bid, store.Outcome{State: to, Data: []byte(`{}`)})
	}
	return err
}
