package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The runbook's commands are run as they stand there, over what a killed worker left, and
// their real output stands below them. From the alert to the closed incident it takes
// three of them.
func TestRunbook_IsWhatThisToolPrints(t *testing.T) {
	t.Parallel()
	server, address := startTemporal(t)
	dir, bin := killWorkerOf(t, "3", "9", "7"), t.TempDir()
	// As Temporal's CLI does from version 1.6.
	require.NoError(t, os.WriteFile(filepath.Join(bin, "temporal"), []byte("#!/bin/sh\nname=$1\nshift\nexec \"temporal-$name\" \"$@\"\n"), 0o755)) //nolint:gosec // it is run
	env := []string{
		"PATH=" + bin + ":" + filepath.Dir(binary) + ":" + os.Getenv("PATH"), "HOME=" + bin, "ATMOSTONCE_STORE=" + urlOf(dir),
		"TEMPORAL_ADDRESS=" + address, "ATMOSTONCE_OPERATOR=ann", "ATMOSTONCE_AUDIT=" + filepath.Join(bin, "audit.jsonl"), "ATMOSTONCE_UI=https://temporal.example.com",
	}
	path := filepath.Join("..", "..", "..", "docs", "runbook.md")
	page, err := os.ReadFile(path)
	require.NoError(t, err)
	blocks, n := regexp.MustCompile("(?s)```console\n.*?```"), 0
	now := blocks.ReplaceAllStringFunc(string(page), func(block string) string {
		var b strings.Builder
		b.WriteString("```console\n")
		began, commands := time.Now(), 0
		for line := range strings.Lines(block) {
			command, is := strings.CutPrefix(strings.TrimSpace(line), "$ ")
			if !is {
				continue
			}
			cmd := exec.Command("sh", "-c", command) //nolint:gosec // it is the page's
			cmd.Env = env
			out, _ := cmd.CombinedOutput() // some of them are refused
			b.WriteString("$ " + command + "\n" + steady(string(out)))
			commands++
		}
		if n++; n == 1 {
			require.Equal(t, 3, commands, "from the alert to the closed incident")
			require.Less(t, time.Since(began), 30*time.Second)
			require.EqualValues(t, 1, server.resets.Load(), "the call is tried again")
			require.Contains(t, b.String(), "in doubt → succeeded (ann: ")
		}
		return b.String() + "```"
	})
	require.Greater(t, n, 2)
	requireFile(t, path, now)
}

// steady is output with one time for all times, and one age for all ages.
func steady(text string) string {
	for _, change := range []struct{ pattern, to string }{
		{`\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ`, "2026-01-02 03:04:05Z"},
		{`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`, "2026-01-02T03:04:05Z"},
		{`\((in )?\d+[smhd]( \d+[smhd])?( ago)?\)`, "(${1}12s${3})"}, {`for another [\d.ms]+`, "for another 12s"}, {`(next in|doubt, for|oldest for|succeeded, for) \d+s`, "$1 12s"},
		{`(?m)(in doubt {3})\d+s +`, "${1}12s      "}, {`(?m)(in doubt {3}\d+ {7})\d+s +`, "${1}12s      "},
		{`/\S*/store`, "/var/lib/atmostonce"}, {`Redis [\d.]+`, "Redis 7.4.0"}, {`\d+ files and directories`, "9 files and directories"}, {`uid \d+`, "uid 1000"},
	} {
		text = regexp.MustCompile(change.pattern).ReplaceAllString(text, change.to)
	}
	return text
}
