package page

import (
	"strconv"
	"time"

	"github.com/atmostonce/atmostonce/internal/ops"
)

// What is shown at most of one text, in characters: in a list, and of an event, which has
// room for the longest reason.
const (
	maxBrief = 120
	maxEvent = 6 << 10
)

// brief is a text from a record, for a list.
func brief(text string) string { return ops.Text(text, maxBrief) }

// full is a text from a record, for its own page.
func full(text string) string { return ops.Text(text, ops.Long) }

// grouped is a number with its thousands apart.
func grouped(n int) string {
	digits := strconv.Itoa(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// counted is a number of things.
func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return grouped(n) + " " + thing + "s"
}

// count is a number that may be bounded.
type count struct {
	N    int
	More bool // there are more
}

func (c count) String() string {
	if c.More {
		return grouped(c.N) + "+"
	}
	return grouped(c.N)
}

// moment is a time as the page shows it; the zero value is none.
type moment struct {
	ISO   string // for machines
	Exact string // for people, to the second
	Age   string // how long ago, or from now
	Ago   string // the same, with the direction
}

func momentOf(t, now time.Time) moment {
	if t.IsZero() {
		return moment{}
	}
	m := moment{ISO: t.UTC().Format(time.RFC3339Nano), Exact: ops.Time(t)}
	if t.After(now) {
		m.Age = ops.Age(t.Sub(now))
		m.Ago = "in " + m.Age
	} else {
		m.Age = ops.Age(now.Sub(t))
		m.Ago = m.Age + " ago"
	}
	return m
}
