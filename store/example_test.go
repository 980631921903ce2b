package store_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log"
	"time"

	"github.com/atmostonce/atmostonce/store"
)

// What is in doubt, oldest first. A program of the user who runs the workers may list
// the store while they run.
func ExampleNewFile() {
	s, err := store.NewFile("/var/lib/atmostonce", store.FileOptions{})
	if err != nil {
		log.Fatalln(err)
	}
	for r, err := range s.List(context.Background(), store.Query{State: store.InDoubt}) {
		if err != nil { // a record that cannot be read; the listing goes on
			log.Println(err)
			continue
		}
		fmt.Println(r.Info.Activity, "since", r.Doubted, "last run by", r.Info.Holder.WorkflowID)
	}
	if err := s.Close(); err != nil {
		log.Fatalln(err)
	}
}

// What a guard does with a store: it claims a key, and settles it.
func ExampleStore() {
	ctx := context.Background()
	s := store.NewMemory(store.MemoryOptions{}) // any store
	bid := func() store.Bid {
		return store.Bid{Key: "order 7", Owner: rand.Text(), Lease: time.Minute, TTL: time.Hour}
	}
	first := bid()
	r, err := s.Acquire(ctx, first)
	fmt.Println(r.State, r.Owned(first.Owner), err)

	second := bid()
	r, err = s.Acquire(ctx, second)
	fmt.Println(r.State, r.Owned(second.Owner), err)

	first.Fence = r.Fence
	r, err = s.Settle(ctx, first, store.Outcome{State: store.Succeeded, Data: []byte("receipt 7")})
	fmt.Println(r.State, string(r.Outcome.Data), err)
	// Output:
	// running true <nil>
	// running false <nil>
	// succeeded receipt 7 <nil>
}

// How many records are running, in doubt or pending.
func ExampleStats() {
	ctx := context.Background()
	s := store.NewMemory(store.MemoryOptions{}) // any store
	_, err := s.Acquire(ctx, store.Bid{
		Key: "order 7", Owner: rand.Text(), Lease: time.Minute, TTL: time.Hour,
		Info: store.Info{Activity: "ChargeCard", Holder: store.Holder{Namespace: "shop"}},
	})
	if err != nil {
		log.Fatalln(err)
	}
	stats, err := store.Stats(ctx, s)
	for _, stat := range stats {
		fmt.Println(stat.Namespace, stat.Activity, stat.State, stat.Count)
	}
	fmt.Println(err)
	// Output:
	// shop ChargeCard running 1
	// <nil>
}
