package storetest

import (
	"fmt"
	"strings"

	"github.com/atmostonce/atmostonce/store"
)

// hostileKeys are all different, and a store must keep them apart.
var hostileKeys = []string{
	"a", "A", "a ", " a", "a.", "a/", "/a", "//a", "a/b", "a%2Fb", "a\\b", "a:b", "a*", "a?", "[a]", "{a}", "{a}b", "a{b}",
	".", "..", "../a", "a/../a", "~", "-", "--help", "con", "nul.txt", "a\x00", "a\x00b", "\x00", "\n", "a\nb", "a\r\n",
	"\t", "'", "\"", "`", "$a", "$(a)", "é", "e\u0301", "\u200b", "\ufeffa", "日本語", "🧾", "\U0010ffff", "a\u202eb",
	strings.Repeat("x", 10_000), strings.Repeat("x", 10_001), strings.Repeat("x", 9_999) + "y",
	"1", "01", "1.0", "true", "null", "{}", "[]",
}

var keysCases = []testCase{
	{
		"hostile keys are kept apart",
		"A key is any text: case, spaces, separators, escapes, control characters and length all count. Two keys are never one record, and a key comes back as it went in.",
		func(k *kit) {
			for i, key := range hostileKeys {
				b := bid("a")
				b.Key = key
				k.that(k.load(key).State == store.Absent, "the key %.40q has another key's record", key)
				r := k.grant(k.s, &b)
				k.that(r.Key == key, "the key %.40q came back as %.40q", key, r.Key)
				k.ok(k.s.Settle(k.ctx, b, succeeded(fmt.Sprint(i))))
			}
			s := k.open()
			for i, key := range hostileKeys {
				r := k.ok(s.Load(k.ctx, key))
				k.that(r.Key == key, "the key %.40q came back as %.40q", key, r.Key)
				k.holds(r, succeeded(fmt.Sprint(i)))
			}
		},
	},
	{
		"hostile keys are listed",
		"List yields every record, under the key it was given.",
		func(k *kit) {
			want := map[string]bool{}
			for _, key := range hostileKeys {
				b := bid("a")
				b.Key = key
				k.grant(k.s, &b)
				want[key] = true
			}
			for r, err := range k.s.List(k.ctx, store.Query{}) {
				r = k.ok(r, err)
				k.that(want[r.Key], "List yields the key %.40q, twice or unasked", r.Key)
				delete(want, r.Key)
			}
			k.that(len(want) == 0, "List does not yield %d of the keys", len(want))
		},
	},
	{
		"hostile nonces are kept apart",
		"A nonce is any text too. Claims of one key are told apart by it.",
		func(k *kit) {
			for i, nonce := range []string{"../../a", "a/b", "A", "a", "a\x00", "é", "*", strings.Repeat("n", 200)} {
				b := bid(nonce)
				b.Key = fmt.Sprint(i)
				r := k.grant(k.s, &b)
				other := bid(nonce + "x")
				other.Key = b.Key
				k.unchanged(r, k.ok(k.s.Acquire(k.ctx, other)))
				k.unchanged(r, k.answer(store.ErrSuperseded)(k.s.Release(k.ctx, other)))
				k.is(k.ok(k.s.Settle(k.ctx, b, succeeded("1"))), store.Succeeded, nonce)
			}
		},
	},
}
