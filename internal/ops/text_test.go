package ops_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/internal/ops"
)

// hostile are texts that a stranger may have put into a workflow ID, say.
var hostile = map[string]string{
	"two lines":         "a\nb\r\nc",
	"an escape code":    "\x1b[2J\x1b]0;title\a",
	"an 8-bit code":     "\u009b2J",
	"a raw 8-bit byte":  "\x9b2J",
	"a backspace":       "no\b\byes",
	"a bidi override":   "txt.\u202eexe",
	"a bidi isolate":    "\u2066a\u2069",
	"a zero width":      "a\u200bb\ufeff",
	"a line separator":  "a\u2028b\u2029",
	"invalid UTF-8":     "\xff\xfea\xc3",
	"a tag":             "a\U000e0041",
	"blank letters":     "\u3164\u115f\u2800",
	"many marks":        "a" + strings.Repeat("\u0301", 50),
	"a variation":       "a\ufe0f",
	"HTML":              `<script>alert(1)</script>`,
	"10 kB":             strings.Repeat("long ", 2000),
	"an interior NUL":   "a\x00b",
	"a private rune":    "\ue000",
	"a lone surrogate":  "\xed\xa0\x80",
	"a no-break space":  "a\u00a0b",
	"a replacement":     "\ufffd",
	"a shell's command": "$(reboot) `reboot` ; reboot",
}

func requireHarmless(t *testing.T, text string) {
	t.Helper()
	require.True(t, utf8.ValidString(text))
	marks := 0
	for _, r := range text {
		require.True(t, unicode.IsPrint(r), "%q in %q", r, text)
		require.NotContains(t, "\u3164\u115f\u2800\ufe0f", string(r))
		if marks++; !unicode.Is(unicode.M, r) {
			marks = 0
		}
		require.LessOrEqual(t, marks, 2)
	}
}

func TestText_IsOneHarmlessLine(t *testing.T) {
	t.Parallel()
	for name, text := range hostile {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, limit := range []int{1, ops.Short, ops.Long} {
				shown := ops.Text(text, limit)
				requireHarmless(t, shown)
				require.LessOrEqual(t, utf8.RuneCountInString(shown), 10*limit+1)
			}
		})
	}
}

func TestText_ShowsWhatItEscapes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"a\nb\tc\r":     `a\nb\tc\r`,
		"\x1b[2J":       `\x1b[2J`,
		"\u202eexe":     `\u202eexe`,
		"\u009bm":       `\u009bm`,
		"\xff\ufffd":    "\\xff\ufffd",
		"\U000e0041":    `\U000e0041`,
		"Zoë 日本":        "Zoë 日本",
		"abcdefghij":    "abcdefgh…",
		"abcdefgh":      "abcdefgh",
		"<b>&'\"":       "<b>&'\"",
		`C:\new`:        `C:\new`,
		"e\u0301":       "e\u0301",
		"a\u0301\u0302": "a\u0301\u0302",
	} {
		require.Equal(t, want, ops.Text(text, 8), "%q", text)
	}
}

func TestJSON_IsHarmlessAndMeansTheSame(t *testing.T) {
	t.Parallel()
	for name, text := range hostile {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			line, err := ops.JSON(map[string]string{"id": text})
			require.NoError(t, err)
			for _, r := range string(line) {
				require.True(t, unicode.IsPrint(r), "%q in %s", r, line)
			}
			plain, err := json.Marshal(map[string]string{"id": text})
			require.NoError(t, err)
			require.JSONEq(t, string(plain), string(line))
		})
	}
	_, err := ops.JSON(func() {})
	require.Error(t, err)
}

func TestAge_IsAsPeopleSayIt(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 999 * time.Millisecond: "0s", 41 * time.Second: "41s", 12*time.Minute + 59*time.Second: "12m",
		3 * time.Hour: "3h", 3*time.Hour + 5*time.Minute: "3h 5m", 24 * time.Hour: "1d", 55 * time.Hour: "2d 7h", 3000 * time.Hour: "125d",
	} {
		require.Equal(t, want, ops.Age(d), d)
	}
}
