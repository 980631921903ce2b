package redisstore

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
)

// A look without a script answers only what the script would answer without a write.
func TestLooks_LeaveToTheScriptWhatItMayChange(t *testing.T) {
	t.Parallel()
	const expires, left = 1_700_000_100_000 * time.Millisecond, 50 * time.Second // now is at 50 s
	at := func(seconds float64) time.Time {
		return time.UnixMicro(1_700_000_000_000_000).Add(time.Duration(seconds * float64(time.Second))).UTC()
	}
	b := store.Bid{Key: sampleRecords()[0].Key, Owner: "stranger", Lease: time.Minute, TTL: left}
	running := sampleRecords()[0]
	running.LeaseEnd = at(51)
	settled := running
	settled.State, settled.LeaseEnd, settled.Settled = store.Succeeded, time.Time{}, at(40)
	settled.Outcome = store.Outcome{State: store.Succeeded, Data: []byte("42")}
	for about, c := range map[string]struct {
		record  store.Record
		change  func(r *store.Record, b *store.Bid)
		answers bool
	}{
		"settled":                           {settled, func(*store.Record, *store.Bid) {}, true},
		"running":                           {running, func(*store.Record, *store.Bid) {}, true},
		"in doubt":                          {sampleRecords()[3], func(r *store.Record, _ *store.Bid) { r.Key = b.Key }, true},
		"its own":                           {running, func(r *store.Record, b *store.Bid) { b.Owner = r.Owner }, true},
		"to live longer":                    {settled, func(_ *store.Record, b *store.Bid) { b.TTL += time.Millisecond }, false},
		"another key":                       {settled, func(r *store.Record, _ *store.Bid) { r.Key = "another" }, false},
		"a lease that is over":              {running, func(r *store.Record, _ *store.Bid) { r.LeaseEnd = at(49) }, false},
		"a lease that may end meanwhile":    {running, func(r *store.Record, _ *store.Bid) { r.LeaseEnd = at(50.001) }, false},
		"a lease that ends just afterwards": {running, func(r *store.Record, _ *store.Bid) { r.LeaseEnd = at(50.002) }, true},
		"a tombstone": {settled, func(r *store.Record, _ *store.Bid) {
			r.State, r.Outcome = store.Tombstone, store.Outcome{}
		}, false},
		"a nonce that is spent": {settled, func(r *store.Record, _ *store.Bid) {
			r.History = []store.Turn{{What: store.TurnReleased, At: at(1), Owner: "stranger"}}
		}, false},
		"a nonce that is not": {settled, func(r *store.Record, _ *store.Bid) {
			r.History = []store.Turn{{What: store.TurnReleased, At: at(1), Owner: "another"}}
		}, true},
	} {
		r, bid := c.record, b
		c.change(&r, &bid)
		got, ok := standing(PackRecord(r), expires, left, bid)
		require.Equal(t, c.answers, ok, about)
		if ok {
			r.Now, r.Expires = at(50), at(100)
			require.Equal(t, r, got, about)
		}
	}
	for about, c := range map[string]struct {
		packed        string
		expires, left time.Duration
	}{
		"broken": {PackRecord(settled) + "x", expires, left}, "forever": {PackRecord(settled), -1, -1}, "gone meanwhile": {PackRecord(settled), -2, -2},
		"forever meanwhile": {PackRecord(settled), -1, left}, "nothing": {"", expires, left},
	} {
		_, ok := standing(c.packed, c.expires, c.left, b)
		require.False(t, ok, about)
	}

	r := settled
	r.Settled = at(50.0009)
	got, ok := standing(PackRecord(r), expires, left, b)
	require.True(t, ok)
	require.Equal(t, r.Settled, got.Now, "nothing is answered that is yet to happen")
}

// A client that may ask a replica, or of which that is not known, is given scripts alone.
func TestLooks_AskNoReplica(t *testing.T) {
	t.Parallel()
	for about, c := range map[string]struct {
		client redis.UniversalClient
		asks   bool
	}{
		"a server":        {redis.NewClient(&redis.Options{}), true},
		"a Cluster":       {redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}}), true},
		"its replicas":    {redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}, ReadOnly: true}), false},
		"the nearest":     {redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}, RouteByLatency: true}), false},
		"any":             {redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}, RouteRandomly: true}), false},
		"what is unknown": {struct{ redis.UniversalClient }{redis.NewClient(&redis.Options{})}, false},
	} {
		s, err := New(c.client, Options{})
		require.NoError(t, err)
		require.Equal(t, c.asks, s.looks != nil, about)
		require.NoError(t, c.client.Close())
	}
	s, err := New(redis.NewClient(&redis.Options{}), Options{Replicas: 1})
	require.NoError(t, err)
	require.Nil(t, s.looks)
	require.Nil(t, s.index.batches)
}
