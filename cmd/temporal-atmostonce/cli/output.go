package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/atmostonce/atmostonce/internal/ops"
	"github.com/atmostonce/atmostonce/store"
)

// isText reports whether people read the output.
func (t *tool) isText() bool { return t.host.output == "text" }

// printf writes text for people: the output's, if people read it.
func (t *tool) printf(format string, args ...any) {
	if t.isText() {
		fmt.Fprintf(t.out, format, args...)
	}
}

// note says something on standard error.
func (t *tool) note(format string, args ...any) {
	fmt.Fprintf(t.err, format+"\n", args...)
}

// complain says on standard error why the command failed.
func (t *tool) complain(err error) {
	var lines []string
	for line := range strings.SplitSeq(err.Error(), "\n") { // of joined errors
		lines = append(lines, ops.Text(line, 10*ops.Long))
	}
	t.note("Error: %s", strings.Join(lines, "\n  "))
}

// value writes the one value of a command as JSON.
func (t *tool) value(v any) error {
	if t.isText() || t.host.output == "none" {
		return nil
	}
	line, err := ops.JSON(v)
	if err == nil {
		_, err = fmt.Fprintf(t.out, "%s\n", line)
	}
	return err
}

// series writes values as JSON, one after the other: an array, or a line each.
type series struct {
	out   io.Writer
	lines bool
	begun bool
}

func (t *tool) series() *series {
	out := t.out
	if t.host.output == "none" || t.isText() {
		out = io.Discard
	}
	return &series{out: out, lines: t.host.output == "jsonl"}
}

func (s *series) add(v any) error {
	line, err := ops.JSON(v)
	if err != nil {
		return err
	}
	before := ""
	switch {
	case s.lines:
	case s.begun:
		before = ",\n"
	default:
		before = "[\n"
	}
	s.begun = true
	after := ""
	if s.lines {
		after = "\n"
	}
	_, err = fmt.Fprintf(s.out, "%s%s%s", before, line, after)
	return err
}

func (s *series) end() error {
	if s.lines {
		return nil
	}
	text := "\n]\n"
	if !s.begun {
		text = "[]\n"
	}
	_, err := io.WriteString(s.out, text)
	return err
}

// colored returns text in the color of a state, where colors are wanted.
func (t *tool) colored(s store.State, text string) string {
	wanted := t.host.color == "always" || t.host.color == "auto" && t.colors && t.env("NO_COLOR") == "" && t.env("TERM") != "dumb"
	code := map[store.State]string{store.InDoubt: "1;31", store.Pending: "33", store.Running: "36", store.Succeeded: "32", store.Failed: "35"}[s]
	if !wanted || code == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// column is text in a column of a table: cut, and filled up with spaces.
func column(text string, width int) string {
	text = ops.Text(text, width-1)
	if n := len([]rune(text)); n >= width {
		text = string([]rune(text)[:width-2]) + "…" // of escapes
	}
	return text + strings.Repeat(" ", width-len([]rune(text)))
}

// count is a number of things in words.
func count(n int, one, many string) string {
	if n == 1 {
		many = one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// when is a time as text shows it.
func (t *tool) when(v ops.View, at time.Time) string {
	if at.IsZero() {
		return ""
	}
	if t.host.timeFormat != "relative" {
		return at.UTC().Format(time.RFC3339Nano)
	}
	return fmt.Sprintf("%s (%s)", ops.Time(at), v.Ago(at))
}
