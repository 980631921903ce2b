package redisstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/atmostonce/atmostonce/store"
)

// call is what a script's reply is read against: what the reply leaves out are the
// caller's own values.
type call struct {
	bid     store.Bid
	outcome store.Outcome
}

// verdicts are the errors that come with a record.
var verdicts = map[string]error{
	"":           nil,
	"gone":       store.ErrGone,
	"superseded": store.ErrSuperseded,
	"conflict":   store.ErrConflict,
	"moved":      store.ErrMoved,
}

// bidArgs are the arguments that bid.lua reads, and rest.
func bidArgs(b store.Bid, rest []any) ([]any, error) {
	if b.Fence >= 1<<53 {
		return nil, fmt.Errorf("%w: fence over 2^53", store.ErrInvalid)
	}
	args := make([]any, 0, 5+len(rest))
	args = append(args, packBid(b), b.Fence, micros(b.Lease), ttlArg(b.TTL), micros(b.Deadline))
	return append(args, rest...), nil
}

// packBid is what a record has of its owner's bid, after the head.
func packBid(b store.Bid) []byte {
	p := packer{buf: make([]byte, 0, 512), key: b.Key}
	p.owner(b.Owner)
	p.plainKey(b.Key)
	p.info(b.Info)
	return p.buf
}

func packKey(key string) []byte {
	var p packer
	p.plainKey(key)
	return p.buf
}

func packInfo(i store.Info) []byte {
	var p packer
	p.info(i)
	return p.buf
}

// packOutcome is what a record has of o besides its state; nothing of a doubt
// without a reason.
func packOutcome(key string, o store.Outcome) []byte {
	switch {
	case o.State == store.InDoubt && len(o.Data) == 0, o.State == store.Pending:
		return nil
	case o.State == store.InDoubt:
		o.Missing, o.InLedger = "", false
	}
	p := packer{buf: make([]byte, 0, 128+len(o.Data)), key: key}
	p.outcome(o)
	return p.buf
}

// micros rounds up, to a century at most: a Lua number is exact below 2^53.
func micros(d time.Duration) int64 {
	return int64((min(max(d, 0), store.LongestTTL) + time.Microsecond - 1) / time.Microsecond)
}

func ttlArg(ttl time.Duration) int64 {
	if ttl > store.LongestTTL {
		return 0
	}
	return micros(ttl)
}

func flag(set bool) string {
	if set {
		return "1"
	}
	return ""
}

var errReply = errors.New("unexpected reply of a script")

// read turns a script's reply into the record and the verdict; see clock.lua and
// the quick scripts for its shapes.
func (c call) read(reply []any) (r store.Record, verdict, err error) {
	switch len(reply) {
	case 2:
		r, err = c.granted(reply)
		return r, nil, err
	case 3:
		r, err = c.undisturbed(reply)
		return r, nil, err
	case 4:
	default:
		return store.Record{}, nil, errReply
	}
	now, ok1 := reply[0].(int64)
	word, ok2 := reply[1].(string)
	expires, ok3 := reply[2].(int64)
	packed, ok4 := reply[3].(string)
	verdict, ok5 := verdicts[word]
	if !ok1 || !ok2 || !ok3 || !ok4 && reply[3] != nil || !ok5 {
		return store.Record{}, nil, errReply
	}
	if reply[3] == nil {
		return store.Record{Key: c.bid.Key, Now: fromMicros(now), Expires: fromMillis(expires)}, verdict, nil
	}
	if r, err = unpackRecord(packed); err != nil {
		return store.Record{}, nil, err
	}
	if c.bid.Key != "" && r.Key != c.bid.Key {
		return store.Record{}, nil, fmt.Errorf("%w: another key", store.ErrCorrupt)
	}
	r.Now, r.Expires = fromMicros(now), fromMillis(expires)
	return r, verdict, nil
}

// granted is the record of a key that had none before this bid.
func (c call) granted(reply []any) (store.Record, error) {
	at, ok1 := reply[0].(int64)
	expires, ok2 := reply[1].(int64)
	if !ok1 || !ok2 {
		return store.Record{}, errReply
	}
	b := c.bid
	r := store.Record{
		Key: b.Key, State: store.Running, Owner: b.Owner, Fence: uint64(at), Revision: 1,
		Now: fromMicros(at), LeaseEnd: fromMicros(at + micros(b.Lease)), Claimed: fromMicros(at),
		Expires: fromMillis(expires), Origin: store.First, Info: b.Info,
	}
	if b.Deadline > 0 {
		r.Deadline = fromMicros(at + micros(b.Deadline))
	}
	return r, nil
}

// undisturbed is the record that its undisturbed owner has renewed or settled.
func (c call) undisturbed(reply []any) (store.Record, error) {
	now, ok1 := reply[0].(int64)
	expires, ok2 := reply[1].(int64)
	head, ok3 := reply[2].(string)
	if !ok1 || !ok2 || !ok3 {
		return store.Record{}, errReply
	}
	r := store.Record{Key: c.bid.Key, Owner: c.bid.Owner, Info: c.bid.Info, Now: fromMicros(now), Expires: fromMillis(expires)}
	if _, err := unpackHead(&r, &unpacker{rest: head}); err != nil || len(head) != headSize {
		return store.Record{}, fmt.Errorf("%w: head", store.ErrCorrupt)
	}
	if o := c.outcome; r.State == o.State {
		r.Outcome = store.Outcome{State: o.State, Data: slices.Clone(o.Data), Context: o.Context, Missing: o.Missing, InLedger: o.InLedger}
	}
	return r, r.Validate()
}

const (
	headSize = 29 // without the time of the claim and the generation
	// The versions that a record may have. A first byte outside of these is none of a
	// record.
	version, lastVersion = 1, 31
	maxNumber            = 1<<53 - 1
)

// Flags of a record's head; see record.lua.
const (
	flagMarked = 1 << iota
	flagForgotten
	flagKept
	flagBy
	flagHistory
	flagOutcome
	flagClaimed
	flagGeneration
)

var (
	stateLetters = map[byte]store.State{
		'r': store.Running, 'd': store.InDoubt, 'p': store.Pending, 's': store.Succeeded, 'f': store.Failed, 't': store.Tombstone,
	}
	originLetters = map[byte]store.Origin{'f': store.First, 't': store.Taken, 'c': store.Clean}
)

// unpackHead reads the head of a record; see record.lua.
func unpackHead(r *store.Record, u *unpacker) (flags byte, err error) {
	head := u.take(headSize)
	if u.broken {
		return 0, errPacked
	}
	number := func(i int) uint64 { return binary.BigEndian.Uint64([]byte(head[i-1:i+7])) & (1<<56 - 1) }
	fence, at, deadline := number(8), number(15), number(22)
	r.State, r.Origin, flags = stateLetters[head[1]], originLetters[head[2]], head[3]
	claimed := fence
	if flags&flagClaimed == 0 {
		claimed = u.number(7)
	}
	if flags&flagGeneration != 0 {
		r.Generation = u.number(4)
		u.broken = u.broken || r.Generation == 0
	}
	if head[0] != version || u.broken || max(fence, claimed, at, deadline) > maxNumber {
		return 0, errPacked
	}
	r.Revision, r.Fence = uint64(binary.BigEndian.Uint32([]byte(head[4:8]))), fence
	r.Claimed, r.Deadline = fromMicros(int64(claimed)), fromMicros(int64(deadline))
	switch r.State {
	case store.Running:
		r.LeaseEnd = fromMicros(int64(at))
	case store.InDoubt:
		r.Doubted = fromMicros(int64(at))
	default:
		r.Settled = fromMicros(int64(at))
	}
	r.Marked, r.Forgotten = flags&flagMarked != 0, flags&flagForgotten != 0
	return flags, nil
}

// unpackRecord reads a record as the server keeps it. It takes what record.lua
// takes.
func unpackRecord(packed string) (r store.Record, err error) {
	u := &unpacker{rest: packed}
	if first := u.peek(); first > version && first <= lastVersion {
		return r, store.ErrVersion
	}
	flags, err := unpackHead(&r, u)
	if err != nil {
		return store.Record{}, fmt.Errorf("%w: head", store.ErrCorrupt)
	}
	r.Owner, r.Key = u.owner(), u.plainKey()
	u.key = r.Key
	r.Info = u.info()
	if flags&flagBy != 0 {
		r.By = u.raw()
		u.broken = u.broken || r.By == ""
	}
	if flags&flagOutcome != 0 {
		r.Outcome = u.outcome()
		r.Outcome.State = r.State
	} else if r.State == store.Succeeded || r.State == store.Failed {
		r.Outcome.State = r.State
	}
	if flags&flagKept != 0 {
		o := u.outcome()
		o.State = store.Succeeded
		r.Kept = &o
	}
	if flags&flagHistory != 0 {
		r.History = u.history()
	}
	if u.broken || u.rest != "" {
		return store.Record{}, fmt.Errorf("%w: after the head", store.ErrCorrupt)
	}
	if err := r.Validate(); err != nil {
		return store.Record{}, err
	}
	return r, nil
}

func (u *unpacker) history() []store.Turn {
	n := int(u.number(1))
	if n < 1 || n > 64 {
		u.broken = true
		return nil
	}
	events := make([]store.Turn, 0, n)
	for i := 0; i < n && !u.broken; i++ {
		e := store.Turn{What: u.raw()}
		at, from := u.number(7), byte(u.number(1))
		e.From, e.Owner, e.Fence = stateLetters[from], u.owner(), u.number(7)
		e.By, e.Why, e.ID, e.FromBy, e.Who = u.raw(), u.raw(), u.raw(), u.raw(), u.raw()
		if at < 1 || max(at, e.Fence) > maxNumber || from != 0 && e.From == store.Absent {
			u.broken = true
		}
		e.At = fromMicros(int64(at))
		events = append(events, e)
	}
	return events
}

// fromMicros returns the zero time for 0: never.
func fromMicros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

// fromMillis returns the zero time for 0: forever.
func fromMillis(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMilli(n).UTC()
}
