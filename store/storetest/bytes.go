package storetest

import (
	"bytes"
	"fmt"

	"github.com/atmostonce/atmostonce/store"
)

// binary returns n bytes in which every value occurs.
func binary(n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return data
}

var bytesCases = []testCase{
	{
		"an outcome's bytes come back as they were",
		"Data is replayed to callers byte for byte. It is not text: zero bytes, line ends and invalid UTF-8 are kept, up to a megabyte at least.",
		func(k *kit) {
			for name, data := range map[string][]byte{
				"all values": binary(256), "one MiB": binary(1 << 20), "zero": {0}, "line ends": []byte("\r\n\x00\n"),
				"not UTF-8": {0xff, 0xfe, 0xc3, 0x28}, "json": []byte(`{"a":"\u0000","b":1e400}`), "number": []byte("007"),
			} {
				for _, state := range []store.State{store.Succeeded, store.Failed} {
					b := bid("a")
					b.Key += name + string(state)
					o := store.Outcome{State: state, Data: data, Context: "ctx: \"ü\"\n"}
					k.grant(k.s, &b)
					k.holds(k.ok(k.s.Settle(k.ctx, b, o)), o)
					k.holds(k.ok(k.open().Load(k.ctx, b.Key)), o)
					other := bid("b")
					other.Key = b.Key
					k.holds(k.ok(k.s.Acquire(k.ctx, other)), o)
				}
			}
		},
	},
	{
		"a kept outcome's bytes come back as they were",
		"What is kept of a superseded owner is replayed like any other outcome.",
		func(k *kit) {
			a, b := k.superseded(false)
			o := store.Outcome{State: store.Succeeded, Data: binary(1 << 16), Context: "json"}
			r := k.answer(store.ErrConflict)(k.s.Settle(k.ctx, a, o))
			k.that(r.Kept != nil && sameOutcome(*r.Kept, o), "kept %+v", r.Kept)
			r = k.load(theKey)
			k.that(r.Kept != nil && sameOutcome(*r.Kept, o), "kept %+v", r.Kept)
			k.holds(k.ok(k.s.Release(k.ctx, b)), o)
			k.holds(k.load(theKey), o)
		},
	},
	{
		"text that is not UTF-8 comes back as it was",
		"A key, a nonce, an ID or what a duplicate must agree on is made of whatever a program was given. If a byte of it changes, the owner loses its claim, or every legitimate duplicate is refused for good.",
		func(k *kit) {
			for i, text := range rawTexts {
				keepsText(k, fmt.Sprintf("/%d", i), text)
			}
		},
	},
	{
		"a doubt's and a kept outcome's text comes back as it was",
		"What an owner said about its doubt, or a superseded owner about its success, is replayed too.",
		func(k *kit) {
			for i, text := range rawTexts {
				b := bid("a")
				b.Key += fmt.Sprintf("/%d", i)
				k.grant(k.s, &b)
				doubt := store.Outcome{State: store.InDoubt, Data: []byte(text + "1"), Context: text}
				r := k.ok(k.s.Settle(k.ctx, b, doubt))
				k.holds(r, doubt)
				k.holds(k.load(b.Key), doubt)
				c := bid("c")
				c.Key = b.Key
				c.Fence = k.ok(k.s.Takeover(k.ctx, c, r)).Fence
				late := store.Outcome{State: store.Succeeded, Data: []byte("1"), Context: text, Missing: text}
				k.answer(store.ErrConflict)(k.s.Settle(k.ctx, b, late))
				r = k.load(b.Key)
				k.that(r.Kept != nil && sameOutcome(*r.Kept, late), "kept %+v of text %q", r.Kept, text)
				k.ok(k.s.Release(k.ctx, c))
				k.holds(k.load(b.Key), late)
			}
		},
	},
	{
		"a result without data is a result",
		"nil and empty data may be told apart or not, but the record is settled either way.",
		func(k *kit) {
			for name, data := range map[string][]byte{"nil": nil, "empty": {}} {
				b := bid("a")
				b.Key += name
				k.grant(k.s, &b)
				o := store.Outcome{State: store.Succeeded, Data: data}
				k.holds(k.ok(k.s.Settle(k.ctx, b, o)), o)
				k.holds(k.ok(k.s.Load(k.ctx, b.Key)), o)
			}
		},
	},
	{
		"a result that was not kept is not an empty one",
		"Missing says why the data could not be kept. If it were lost, a duplicate would be served a zero value.",
		func(k *kit) {
			b := k.granted("a")
			o := store.Outcome{State: store.Succeeded, Missing: "4 MiB, over the limit of 2 MiB", InLedger: true}
			k.holds(k.ok(k.s.Settle(k.ctx, b, o)), o)
			k.holds(k.load(theKey), o)
			k.holds(k.ok(k.s.Acquire(k.ctx, bid("b"))), o)
		},
	},
	{
		"what goes in is copied",
		"The caller may reuse its buffer after Settle and Resolve have returned.",
		func(k *kit) {
			data := []byte("settled")
			b := k.granted("a")
			k.ok(k.s.Settle(k.ctx, b, store.Outcome{State: store.Succeeded, Data: data}))
			copy(data, "XXXXXXX")
			k.that(string(k.load(theKey).Outcome.Data) == "settled", "the outcome changed with the buffer that was settled")

			b = bid("a")
			b.Key += "resolved"
			k.grant(k.s, &b)
			from := k.ok(k.s.Settle(k.ctx, b, inDoubt))
			res := decide("1", store.Succeeded)
			res.Outcome.Data = []byte("resolved")
			k.ok(k.s.Resolve(k.ctx, b.Key, from, res))
			copy(res.Outcome.Data, "XXXXXXXX")
			k.that(string(k.load(b.Key).Outcome.Data) == "resolved", "the outcome changed with the buffer that was resolved")
		},
	},
	{
		"what was kept is copied",
		"The caller may reuse its buffer after a superseded Settle too.",
		func(k *kit) {
			a, _ := k.superseded(false)
			data := []byte("late")
			k.answer(store.ErrConflict)(k.s.Settle(k.ctx, a, store.Outcome{State: store.Succeeded, Data: data}))
			copy(data, "XXXX")
			r := k.load(theKey)
			k.that(r.Kept != nil && string(r.Kept.Data) == "late", "the kept outcome changed with the buffer that was settled")
			copy(r.Kept.Data, "YYYY")
			r = k.load(theKey)
			k.that(r.Kept != nil && string(r.Kept.Data) == "late", "the kept outcome changed with an answer")
		},
	},
	{
		"what comes out is a copy",
		"A caller may change the record that it was given; the store's is not touched.",
		func(k *kit) {
			a, b := k.superseded(true)
			r := k.ok(k.s.Settle(k.ctx, b, succeeded("settled")))
			spoil(r)
			for _, read := range []func() store.Record{
				func() store.Record { return k.load(theKey) },
				func() store.Record { return k.ok(k.s.Acquire(k.ctx, bid("c"))) },
				func() store.Record { return k.ok(k.s.Settle(k.ctx, b, succeeded("settled"))) },
				func() store.Record {
					for r, err := range k.s.List(k.ctx, store.Query{}) {
						return k.ok(r, err)
					}
					return store.Record{}
				},
			} {
				r := read()
				k.holds(r, succeeded("settled"))
				k.event(r, store.TurnTakenOver, a.Owner)
				spoil(r)
			}
			k.holds(k.load(theKey), succeeded("settled"))
		},
	},
}

// rawTexts are strings that JSON and C would change.
var rawTexts = []string{
	"\xff", "a\xc3\x28z", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\x80é", "\x00", "a\x00b", "\x7f\x1b\x01\r\n\t", "\ufffd",
	"\"\\/<&>\u2028", `\u0000\xff`, "\ufeffa", string(binary(256)),
}

// keepsText holds the store to every text that it is given about one key.
func keepsText(k *kit, suffix, text string) {
	k.Helper()
	b := bid("a" + text)
	b.Key += text + suffix
	b.Info = store.Info{
		Activity: text + "1", Input: text + "2", Match: text + "3", Trace: text + "4", Ledger: text + "12",
		Holder: store.Holder{
			Namespace: text + "5", WorkflowID: text + "6", RunID: text + "7", ActivityID: text + "8", ActivityRunID: text + "9",
			Worker: text + "10", OriginalRunID: text + "11", Attempt: 1, Occurrence: 1,
		},
	}
	k.grant(k.s, &b)
	r := k.ok(k.open().Load(k.ctx, b.Key))
	k.that(r.Key == b.Key && r.Owner == b.Owner, "the key %q of %q came back as %q of %q", b.Key, b.Owner, r.Key, r.Owner)
	diff := differentInfo(b.Info, r.Info)
	k.that(diff == "", "text %q: %s", text, diff)
	r = k.ok(k.s.Acquire(k.ctx, b))
	k.that(r.Owned(b.Owner), "the claim %q does not have its key any more", b.Owner)

	o := store.Outcome{State: store.Failed, Data: []byte(text), Context: text + "1", Missing: text + "2"}
	k.holds(k.ok(k.s.Settle(k.ctx, b, o)), o)
	r = k.load(b.Key)
	k.holds(r, o)
	res := store.Resolution{ID: "r" + text, To: store.Tombstone, By: "by" + text, Why: "why" + text, TTL: longTTL}
	r = k.ok(k.s.Resolve(k.ctx, b.Key, r, res))
	k.that(r.By == res.By, "by %q came back as %q", res.By, r.By)
	k.unchanged(r, k.ok(k.s.Resolve(k.ctx, b.Key, store.Record{}, res)))
	k.unchanged(r, k.answer(store.ErrSuperseded)(k.s.Acquire(k.ctx, b)))

	c := b
	c.Owner, c.Fence = "c"+text, 0
	k.grant(k.s, &c) // which writes the history again
	k.ok(k.s.Release(k.ctx, c))
	k.grant(k.s, &store.Bid{Key: b.Key, Owner: "d", Lease: longLease, TTL: longTTL, Info: b.Info})
	r = k.load(b.Key)
	e := k.event(r, store.TurnResolved, b.Owner)
	k.that(e.By == res.By && e.Why == res.Why && e.ID == res.ID, "the resolution %+v came back as %+v", res, e)
	k.event(r, store.TurnReleased, c.Owner)
}

// spoil overwrites what r points to.
func spoil(r store.Record) {
	copy(r.Outcome.Data, bytes.Repeat([]byte("X"), len(r.Outcome.Data)))
	for i := range r.History {
		r.History[i] = store.Turn{}
	}
}
