package redisstore

import (
	"cmp"
	"context"
	"errors"
	"hash/maphash"
	"slices"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/atmostonce/atmostonce/store"
)

// looks answer acquires without a script where that is likely to be enough: about keys
// whose records this process has seen owned by others, or has settled itself. Such a
// guess costs a second round trip where it is wrong, and nothing else.
type looks struct {
	keys    keyspace
	batches *batches
	seed    maphash.Seed
	seen    [4096]atomic.Uint64 // digests of keys; each has one place
}

func newLooks(keys keyspace, b *batches) *looks {
	return &looks{keys: keys, batches: b, seed: maphash.MakeSeed()}
}

// asksMasters reports whether the client is known to send plain reads to masters only, as
// it does scripts. A replica may be behind.
func asksMasters(client redis.UniversalClient) bool {
	switch c := client.(type) {
	case *redis.Client:
		return true
	case *redis.ClusterClient:
		o := c.Options()
		return !o.ReadOnly && !o.RouteByLatency && !o.RouteRandomly
	}
	return false
}

func (l *looks) digest(key string) (digest uint64, place *atomic.Uint64) {
	digest = maphash.String(l.seed, key) | 1
	return digest, &l.seen[digest>>32%uint64(len(l.seen))]
}

// expects reports whether b is likely to be a duplicate.
func (l *looks) expects(b store.Bid) bool {
	digest, place := l.digest(b.Key)
	return place.Load() == digest && b.TTL <= store.LongestTTL && b.Validate() == nil
}

// noted has the next acquire of the record's key expected to be a duplicate. Of a record
// that is kept forever the server's clock cannot be read: it is left to the script.
func (l *looks) noted(r store.Record) {
	if !r.Expires.IsZero() {
		digest, place := l.digest(r.Key)
		place.Store(digest)
	}
}

// acquire answers a bid if the record is one that the script would return as it is.
//
// Its four commands are no transaction. The answer is the record as GET found it; what
// the others say is of the same moment or later, and is used to one side only:
//   - the record expires when PEXPIRETIME says, or later: an expiry moves back only in
//     a release or an erasure, and then what was read was true before;
//   - PTTL, less than that, is the server's clock, to the millisecond below: a lease
//     that is not over one millisecond later was not over when GET ran. That needs the
//     same PEXPIRETIME before and after it: else the clock would be late by what somebody
//     has added in between.
//
// Whatever else there is to do, such as a grant, a doubt, a longer life, or to read a
// record that cannot be read, is left to the script. An error says that no server has
// answered: then the script is not asked as well, which would take as long again.
func (l *looks) acquire(ctx context.Context, b store.Bid) (r store.Record, ok bool, err error) {
	packed, expires, left, err := l.ask(ctx, l.keys.name(b.Key))
	if err == nil {
		r, ok = standing(packed, expires, left, b)
	}
	if !ok {
		digest, place := l.digest(b.Key)
		place.CompareAndSwap(digest, 0)
	}
	var answered redis.Error
	if errors.As(err, &answered) {
		err = nil
	}
	return r, ok, err
}

// ask reads the record of that name, in one round trip: nothing of it if its expiry has
// moved meanwhile.
func (l *looks) ask(ctx context.Context, name string) (packed string, expires, left time.Duration, err error) {
	var get *redis.StringCmd
	var end, ttl, same *redis.DurationCmd
	add := func(p redis.Pipeliner) {
		get, end, ttl, same = p.Get(ctx, name), p.PExpireTime(ctx, name), p.PTTL(ctx, name), p.PExpireTime(ctx, name)
	}
	_, err = l.batches.run(ctx, name, func() {
		p := l.keys.client.Pipeline()
		add(p)
		_, _ = p.Exec(ctx)
	}, add)
	if err != nil {
		return "", 0, 0, err
	}
	err = cmp.Or(get.Err(), end.Err(), ttl.Err(), same.Err())
	if err != nil || end.Val() != same.Val() {
		return "", 0, 0, err
	}
	return get.Val(), end.Val(), ttl.Val(), nil
}

// standing returns the record if an acquire by b changes nothing of it.
func standing(packed string, expires, left time.Duration, b store.Bid) (store.Record, bool) {
	if left < b.TTL || expires < left {
		return store.Record{}, false
	}
	r, err := unpackRecord(packed)
	if err != nil || r.Key != b.Key || r.State == store.Tombstone ||
		slices.ContainsFunc(r.History, func(e store.Turn) bool { return e.Owner == b.Owner }) {
		return store.Record{}, false
	}
	r.Expires = fromMillis(expires.Milliseconds())
	r.Now = fromMillis((expires - left).Milliseconds())
	if r.State == store.Running && !r.Now.Add(time.Millisecond).Before(r.LeaseEnd) {
		return store.Record{}, false
	}
	if since := r.Since(); since.After(r.Now) {
		r.Now = since // which was before, to the microsecond
	}
	return r, true
}
