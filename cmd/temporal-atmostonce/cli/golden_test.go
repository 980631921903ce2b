package cli

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atmostonce/atmostonce/store"
)

// The texts that people read, of every command, in a bubble whose clock is known.
func TestText_OfEveryCommand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := store.NewMemory(store.MemoryOptions{})
		c := over(t, s)
		c.env["ATMOSTONCE_UI"], c.env["ATMOSTONCE_TRACE"] = "https://temporal.example.com/", "https://traces.example.com/trace/{trace}"
		var b strings.Builder
		run := func(args ...string) {
			r := c.run(args...)
			var quoted []string
			for _, arg := range args {
				if strings.ContainsAny(arg, ` "{`) {
					arg = "'" + arg + "'"
				}
				quoted = append(quoted, arg)
			}
			fmt.Fprintf(&b, "$ temporal atmostonce %s\n%s", strings.Join(quoted, " "), r.out)
			for line := range strings.Lines(r.err) {
				b.WriteString("2> " + line)
			}
			fmt.Fprintf(&b, "(exit code %d)\n\n", r.code)
		}
		run("list")
		doubt(t, s, bidOf("3"))
		sleep(12 * time.Minute)
		doubt(t, s, bidOf("9"))
		claim(t, s, bidOf("10"))
		settle(t, s, bidOf("11"), store.Succeeded)
		sleep(5 * time.Second)
		run("list")
		run("show", digestOf("9"))
		run("resolve", digestOf("9"), "--not-done", "--reason", "INC-812", "--yes")
		run("resolve", digestOf("3"), "--done", "--reason", "INC-812", "--yes")
		run("resolve", digestOf("3"), "--done", "--result", `{"ID":"ch_9"}`, "--reason", "found at the provider, INC-812", "--yes")
		run("show", digestOf("3"), "--decode")
		run("correct", digestOf("3"), "--failed", "no charge after all", "--reason", "INC-813", "--yes")
		sleep(time.Hour)
		run("reopen", digestOf("3"), "--reason", "INC-814", "--yes")
		run("history", digestOf("3"))
		run("stats")
		run("list", "--state", "in_doubt", "--state", "succeeded", "--time-format", "iso")
		run("purge", "--older", "30m")
		run("forget", digestOf("11"), "--reason", "GDPR-7", "--yes")
		run("show", digestOf("11"))
		run("doctor")
		requireFile(t, filepath.Join("testdata", "commands.txt"), b.String())
	})
}

// sleep moves the clock of a bubble.
func sleep(d time.Duration) { <-time.After(d) }
