package store

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a power failure would do cannot be tried. What the kernel was asked for
// can be seen: nothing may be answered that is not on the disk by then.
func TestFile_IsOnTheDiskBeforeItAnswers(t *testing.T) {
	t.Parallel()
	above := t.TempDir()
	trace := filepath.Join(above, "trace")
	c := startChild(t, "contend", "child", filepath.Join(above, "new", "store"),
		"strace", "-f", "-y", "-qq", "-s", "32", "-o", trace, "-e", "trace=write,fsync,fdatasync,rename,renameat,renameat2,link,linkat,mkdir,mkdirat")
	for _, key := range []string{"k", "l", "m", "k"} {
		c.ask(t, key)
		require.Equal(t, "true <nil>", c.hear(t))
	}
	require.NoError(t, c.in.Close())
	require.NoError(t, c.cmd.Wait())

	d := disk{dir: above, content: map[string]bool{}, entries: map[string]string{}}
	for _, call := range traced(t, trace) {
		d.see(t, call)
	}
	require.Equal(t, 1, d.segments)
	require.Equal(t, 2+2, d.dirs, "those above, that of the log and that of the claims")
	require.Equal(t, 1+4, d.answers)
}

// traced returns the calls of a trace, each at the time of its end.
func traced(t *testing.T, path string) (calls []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	begun := map[string]string{} // by thread
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		thread, call, _ := strings.Cut(line, " ")
		call = strings.TrimSpace(call)
		if head, unfinished := strings.CutSuffix(call, " <unfinished ...>"); unfinished {
			begun[thread] = head
			continue
		}
		if _, tail, resumed := strings.Cut(call, " resumed>"); resumed {
			call = begun[thread] + tail
		}
		calls = append(calls, call)
	}
	return calls
}

// A disk is what a power failure would leave of what is written below dir.
type disk struct {
	dir     string
	content map[string]bool   // of these files something may be lost
	entries map[string]string // these names may be lost; by name, their directories

	segments, dirs, answers int
}

var (
	callOnFile  = regexp.MustCompile(`^(write|fsync|fdatasync)\(\d+<([^>]*)>(?:, "([^"]*)")?.* = \d+$`)
	callOnNames = regexp.MustCompile(`^(rename|link|mkdir)\w*\((?:[^"]*"([^"]*)")(?:[^"]*"([^"]*)")?.* = 0$`)
)

func (d *disk) see(t *testing.T, call string) {
	t.Helper()
	if m := callOnNames.FindStringSubmatch(call); m != nil && strings.HasPrefix(m[2], d.dir) {
		name := m[2]
		if m[1] != "mkdir" {
			require.NotContains(t, d.content, name, "named before its content is on the disk: %s", call)
			name = m[3]
			d.segments++
		} else {
			d.dirs++
		}
		d.entries[name] = filepath.Dir(name)
	}
	m := callOnFile.FindStringSubmatch(call)
	switch {
	case m == nil:
	case m[1] != "write":
		delete(d.content, m[2])
		for name, dir := range d.entries {
			if dir == m[2] {
				delete(d.entries, name)
			}
		}
	case strings.HasPrefix(m[3], "child "):
		require.Empty(t, d.content, "answered before it is on the disk")
		require.Empty(t, d.entries, "answered before its name is on the disk")
		d.answers++
	case strings.HasPrefix(m[2], d.dir):
		d.content[m[2]] = true
	}
}
