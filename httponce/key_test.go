package httponce

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseKey_TakesAStringOfStructuredFields(t *testing.T) {
	t.Parallel()
	for field, want := range map[string]string{
		`"8e03978e-40d5-43e8-bc93-6894a57f9324"`: "8e03978e-40d5-43e8-bc93-6894a57f9324",
		`  "k"  `:                                "k",
		`" "`:                                    " ",
		`"a\"b\\c"`:                              `a"b\c`,
		`"a/b%2F;,'"`:                            "a/b%2F;,'",
		`"k";a;b=1;c=?0;d="x;\"y";*e=:aGk=:;f=-1.5;g=t`: "k",
		`"k"; a`:                                "k",
		`"` + strings.Repeat("x", maxKey) + `"`: strings.Repeat("x", maxKey),
	} {
		key, ok := parseKey(field, false)
		require.True(t, ok, field)
		require.Equal(t, want, key, field)
	}
	for _, field := range []string{
		"", " ", `""`, `"`, `"k`, `k"`, `k`, `"k" x`, `"k", "l"`, `"k""l"`, `'k'`, `"a\b"`, `"a\`, `"é"`, "\"a\tb\"", "\"a\x7fb\"", "\"a\nb\"",
		`"k";`, `"k";=1`, `"k";A`, `"k";a=`, `"k";a="x`, `"k" ;a`, `"k";a=1,`, `:aGk=:`, `1`, `("k")`, `"` + strings.Repeat("x", maxKey+1) + `"`,
	} {
		_, ok := parseKey(field, false)
		require.False(t, ok, field)
	}
}

func TestParseKey_TakesABareKeyWhereItMay(t *testing.T) {
	t.Parallel()
	for _, field := range []string{"8e03978e-40d5-43e8-bc93-6894a57f9324", " a:b ", `"a:b"`, strings.Repeat("x", maxKey)} {
		key, ok := parseKey(field, true)
		require.True(t, ok, field)
		require.Equal(t, strings.Trim(field, `" `), key)
	}
	for _, field := range []string{"", `a"b`, "a b", "a,b", "a;b", "é", `"a`, strings.Repeat("x", maxKey+1)} {
		_, ok := parseKey(field, true)
		require.False(t, ok, field)
	}
}

func FuzzParseKey(f *testing.F) {
	for _, seed := range []string{`"k"`, `"a\"b\\c";p="x";q=:aa=:`, `k`, `""`, `"\`, `"k";*`, "\"\x00\""} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	f.Fuzz(func(t *testing.T, field string, unquoted bool) {
		key, ok := parseKey(field, unquoted)
		if !ok {
			return
		}
		require.NotEmpty(t, key)
		require.LessOrEqual(t, len(key), maxKey)
		require.Negative(t, strings.IndexFunc(key, func(c rune) bool { return c < ' ' || c > '~' }))
		again, ok := parseKey(`"`+quote.Replace(key)+`"`, false)
		require.True(t, ok)
		require.Equal(t, key, again)
	})
}
