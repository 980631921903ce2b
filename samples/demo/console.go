package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// console prints the story, one line at a time.
type console struct {
	mu    sync.Mutex
	out   io.Writer
	color bool
	began time.Time
}

func newConsole(out *os.File) *console {
	info, err := out.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	return &console{out: out, color: terminal && os.Getenv("NO_COLOR") == "", began: time.Now()}
}

func (c *console) printf(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(c.out, format, args...)
}

// begin starts a chapter and its clock.
func (c *console) begin(title string) {
	c.printf("\n%s\n", c.paint("1", title))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.began = time.Now()
}

// line says what happened to an order, or in general if id is empty.
func (c *console) line(id, format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(c.out, "%6.1fs  %-8s  %s\n", time.Since(c.began).Seconds(), id, fmt.Sprintf(format, args...))
}

func (c *console) good(id, format string, args ...any) {
	c.line(id, "%s", c.paint("32", fmt.Sprintf(format, args...)))
}

func (c *console) bad(id, format string, args ...any) {
	c.line(id, "%s", c.paint("31", fmt.Sprintf(format, args...)))
}

func (c *console) paint(code, text string) string {
	if !c.color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}
