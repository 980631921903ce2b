package page

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/atmostonce/atmostonce/store"
)

// settled is the filter for all that is over; the others are states.
const settled = "settled"

// filter is what a list shows, as its URL says it.
type filter struct {
	State     string // a store.State, or settled; empty: what is open
	Namespace string
	Activity  string
	Workflow  string
	From      cursor // the last record of the page before
}

// cursor is the place of a record in a list. It names the key by its digest.
type cursor struct {
	At     time.Time // store.Record.Since
	Digest string
}

func cursorOf(l line) cursor { return cursor{l.since, l.Digest} }

func (c cursor) isZero() bool { return c.Digest == "" }

func (c cursor) String() string { return fmt.Sprintf("%d-%s", c.At.UnixNano(), c.Digest) }

// parseFilter reads a URL's query.
func parseFilter(q url.Values) (filter, error) {
	f := filter{State: q.Get("state"), Namespace: q.Get("namespace"), Activity: q.Get("activity"), Workflow: strings.TrimSpace(q.Get("workflow"))}
	if _, known := names[f.State]; !known && f.State != "" {
		return f, fmt.Errorf("there is no state %s", brief(f.State))
	}
	from := q.Get("from")
	if from == "" {
		return f, nil
	}
	at, digest, _ := strings.Cut(from, "-")
	nanos, err := strconv.ParseInt(at, 10, 64)
	if err != nil || f.State == "" || !isDigest(digest) || len(digest) != digestSize {
		return f, fmt.Errorf("%s is no place in a list", brief(from))
	}
	f.From = cursor{time.Unix(0, nanos).UTC(), digest}
	return f, nil
}

// IsOpen reports whether the filter selects one open state.
func (f filter) IsOpen() bool { return store.State(f.State).IsOpen() }

// In is the filter with that state, from the beginning.
func (f filter) In(state string) filter {
	f.State, f.From = state, cursor{}
	return f
}

// next is the page after that line.
func (f filter) next(after line) filter {
	f.From = cursorOf(after)
	return f
}

// URL is where the list is, relative to any page.
func (f filter) URL() string {
	q := url.Values{}
	for _, p := range [][2]string{{"state", f.State}, {"namespace", f.Namespace}, {"activity", f.Activity}, {"workflow", f.Workflow}} {
		if p[1] != "" {
			q.Set(p[0], p[1])
		}
	}
	if !f.From.isZero() {
		q.Set("from", f.From.String())
	}
	if len(q) == 0 {
		return "./"
	}
	return "./?" + q.Encode()
}

// query is what to ask the store for, about records of a state; about all if it is empty.
func (f filter) query(state store.State) store.Query {
	return store.Query{State: state, Namespace: f.Namespace, Activity: f.Activity, WorkflowID: f.Workflow}
}

// names are what states are called on the page.
var names = map[string]string{
	string(store.InDoubt):   "In doubt",
	string(store.Running):   "Running",
	string(store.Pending):   "Pending",
	string(store.Succeeded): "Succeeded",
	string(store.Failed):    "Failed",
	string(store.Tombstone): "Given back",
	settled:                 "Settled",
}
