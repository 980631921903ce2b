package cli

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
)

// hostile are texts that strangers may have put into keys, IDs and reasons.
var hostile = []string{
	"a\nDIGEST fake\r\n", "\x1b[2J\x1b]0;owned\a\x1b[31m", "\u009b2J", "txt.\u202eexe\u2066", "a\u200bb\ufeff", "<script>alert(1)</script>",
	strings.Repeat("10 kB ", 1700), "a" + strings.Repeat("\u0301", 60), "$(reboot)`reboot`;'\"", "\u3164", "a\u2028b", "\xff\xfe\x9b",
}

// requireHarmless asserts that a terminal that shows text obeys nothing of it.
func requireHarmless(t *testing.T, text string) {
	t.Helper()
	require.True(t, utf8.ValidString(text))
	for _, r := range text {
		require.True(t, r == '\n' || unicode.IsPrint(r), "%q in %s", r, text)
		require.NotEqual(t, '\u3164', r)
	}
}

// What strangers wrote is harmless in every output of every command, over a store of each
// kind.
func TestText_OfStrangersIsHarmless(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"memory", "file"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := racing[kind](t)
			c := over(t, s)
			c.env["ATMOSTONCE_UI"], c.env["ATMOSTONCE_TRACE"] = "https://x/", "https://y/{trace}"
			for i, text := range hostile {
				b := bidOf("1")
				b.Key, b.Owner = "v1/shop/n/x/k:"+text, "nonce "+string(rune('a'+i))
				b.Info = store.Info{Activity: text, Trace: text, Holder: store.Holder{Namespace: text, WorkflowID: text, RunID: text, ActivityID: text, Attempt: 1, Worker: text}}
				r := doubt(t, s, b)
				check := func(args ...string) ran {
					t.Helper()
					got := c.run(args...)
					requireHarmless(t, got.out+got.err)
					require.Less(t, len(got.out)+len(got.err), 256<<10)
					return got
				}
				for _, args := range [][]string{{"show", b.Key}, {"history", b.Key}, {"show", b.Key + "?"}, {"show", "-w", text}, {"list", "--activity", text}} {
					check(args...)
					check(append(args, "--output", "json")...)
				}
				say := strings.ToValidUTF8(text, "?")
				if len(say) > 500 {
					require.Equal(t, 1, check("resolve", b.Key, "--failed", say, "--reason", say, "--yes").code, "the store takes no such reason")
					say = say[:500]
				}
				c.in = "yes\n" // a person, who sees what is asked
				got := check("--operator", say, "resolve", b.Key, "--failed", say, "--type", say, "--reason", say)
				require.Zero(t, got.code, got.err)
				c.in = ""
				check("--operator", say, "correct", b.Key, "--done", "--result", `{"ID":"r"}`, "--reason", say, "--yes", "--audit", filepath.Join(t.TempDir(), "audit"))
				check("show", b.Key, "--decode")
				got = check("history", b.Key, "-o", "json")
				require.Zero(t, got.code)
				require.Contains(t, got.out, `"what":"resolved"`)
				now, err := s.Load(t.Context(), r.Key)
				require.NoError(t, err)
				require.Equal(t, store.Succeeded, now.State)
			}
			for _, args := range [][]string{{"list", "--all"}, {"list", "--all", "-o", "json"}, {"list", "--all", "-o", "jsonl"}, {"stats"}, {"export"}, {"doctor"}, {"odd\x1b[2J"}, {"list", "--state", "\x1b[2J"}} {
				got := c.run(args...)
				requireHarmless(t, got.out+got.err)
			}
		})
	}
}

// JSON means exactly what was recorded, however it is escaped.
func TestJSON_MeansWhatWasRecorded(t *testing.T) {
	t.Parallel()
	s := store.NewMemory(store.MemoryOptions{})
	b := bidOf("1")
	b.Info.Holder.WorkflowID = "a\x1b[2J\u202e\U000e0041<b>\n"
	doubt(t, s, b)
	var all []struct {
		Holder store.Holder `json:"holder"`
	}
	require.NoError(t, json.Unmarshal([]byte(over(t, s).ok("list", "-o", "json")), &all))
	require.Equal(t, b.Info.Holder.WorkflowID, all[0].Holder.WorkflowID)
}

// Colors are for terminals, and for who has not said no.
func TestColors_AreForTerminalsOnly(t *testing.T) {
	t.Parallel()
	s := store.NewMemory(store.MemoryOptions{})
	doubt(t, s, bidOf("1"))
	for _, c := range []struct {
		terminal bool
		env      map[string]string
		flag     string
		colored  bool
	}{
		{true, nil, "auto", true}, {false, nil, "auto", false}, {false, nil, "always", true}, {true, nil, "never", false},
		{true, map[string]string{"NO_COLOR": "1"}, "auto", false}, {true, map[string]string{"TERM": "dumb"}, "auto", false},
	} {
		of := over(t, s)
		if c.env != nil {
			of.env = c.env
		}
		out := bytes.Buffer{}
		with := of.surroundings()
		with.out, with.colors = &out, c.terminal
		require.Zero(t, of.options.run(t.Context(), []string{"--disable-config-file", "--color", c.flag, "list"}, with))
		require.Equal(t, c.colored, strings.Contains(out.String(), "\x1b["), "%+v", c)
	}
}
