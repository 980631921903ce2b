package storetest

import (
	"bytes"

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
			o := store.Outcome{State: store.Succeeded, Missing: "4 MiB, over the limit of 2 MiB"}
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
				k.event(r, store.EventTakenOver, a.Owner)
				spoil(r)
			}
			k.holds(k.load(theKey), succeeded("settled"))
		},
	},
}

// spoil overwrites what r points to.
func spoil(r store.Record) {
	copy(r.Outcome.Data, bytes.Repeat([]byte("X"), len(r.Outcome.Data)))
	for i := range r.History {
		r.History[i] = store.Event{}
	}
}
