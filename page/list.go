package page

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/atmostonce/atmostonce/internal/ops"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/store"
)

const (
	pageSize   = 50   // lines of a list
	shortSize  = 10   // of one beside others
	maxCounted = 1000 // records that are counted of a state
	maxTallies = 20   // activities that are counted
	digestSize = 64   // hexadecimal digits
)

// line is a record in a list.
type line struct {
	Digest, Short string
	Key           string // with Options.ShowKeys
	Activity      string
	Namespace     string
	Workflow      string
	State, Name   string
	Attempt       int32
	Since         moment
	Note          string
	since         time.Time
}

// section is a list on a page.
type section struct {
	State, Title string
	About        string
	Count        count
	Lines        []line
	Filter       filter // of this section alone
	More         string // where the list goes on
	MoreName     string
	Counted      bool
	IsSettled    bool
	Broken       bool // nothing of it could be read
}

// tally counts what is open of one activity.
type tally struct {
	Namespace, Activity       string // as they are in records
	InDoubt, Running, Pending count
	Oldest                    moment // in doubt
}

// list is what the page of a list shows.
type list struct {
	Filter      filter
	Sections    []section
	Tallies     []*tally
	MoreTallies int  // activities that are left out
	Namespaces  bool // there are several

	reader     reader
	showKeys   bool
	now        time.Time
	unreadable int
	err        error // why it is not complete
	looked     int   // records, of settled ones
}

// open adds a section of an open state: its first lines, and how many there are.
func (l *list) open(ctx context.Context, state store.State, size int) {
	f := l.Filter
	s := section{State: string(state), Title: names[string(state)], About: about[state], Filter: f.In(string(state)), Counted: f.From.isZero()}
	q := f.query(state)
	if !f.From.isZero() {
		q.After = l.at(ctx, f.From, state)
	}
	for r, err := range l.reader.list(ctx, q) {
		if err != nil {
			if l.failed(err) {
				s.Count.More, s.Broken = true, true
				break
			}
			continue
		}
		l.now = r.Now
		if len(s.Lines) == size {
			s.More = f.In(string(state)).next(s.Lines[size-1]).URL()
			if !s.Counted {
				break
			}
		}
		if s.Count.N == maxCounted {
			s.Count.More = true
			break
		}
		s.Count.N++
		if len(s.Lines) < size {
			s.Lines = append(s.Lines, lineOf(r, l.showKeys))
		}
		l.tally(r)
	}
	if s.Count.More {
		l.boundTallies(state)
	}
	s.MoreName = "Next " + grouped(pageSize)
	if size < pageSize && s.More != "" {
		s.More, s.MoreName = s.Filter.URL(), "All that are "+strings.ToLower(s.Title)
	}
	l.Sections = append(l.Sections, s)
}

// at is the record after which a list of open records goes on.
func (l *list) at(ctx context.Context, c cursor, state store.State) store.Record {
	r := store.Record{State: state}
	switch state {
	case store.Running:
		r.Claimed = c.At
	case store.InDoubt:
		r.Doubted = c.At
	default:
		r.Settled = c.At
	}
	// It may have another state meanwhile, or be gone: then those that are as old come again.
	if found, err := l.reader.withDigest(ctx, c.Digest, 1); err == nil && len(found) == 1 {
		r.Key = found[0].Key
	}
	return r
}

// settled adds a section of what is settled: its newest records. The store has no order of
// them, so it looks at all, and keeps a page.
func (l *list) settled(ctx context.Context) {
	f := l.Filter
	state := store.State(f.State)
	if f.State == settled || f.State == "" {
		state = ""
	}
	title := cmp.Or(names[f.State], names[settled])
	s := section{State: cmp.Or(f.State, settled), Title: title, About: "Newest first.", Filter: f.In(cmp.Or(f.State, settled)), IsSettled: true}
	var newest []store.Record
	for r, err := range l.reader.list(ctx, f.query(state)) {
		if err != nil {
			if l.failed(err) {
				s.Broken = true
				break
			}
			continue
		}
		l.now = r.Now
		l.looked++
		if r.State.IsOpen() || !f.From.isZero() && newestFirst(r, f.From) <= 0 ||
			len(newest) > pageSize && r.Since().Before(newest[pageSize].Since()) {
			continue
		}
		if i, known := slices.BinarySearchFunc(newest, cursorAt(r), newestFirst); !known && i <= pageSize {
			newest = slices.Insert(newest, i, r)
			newest = newest[:min(len(newest), pageSize+1)]
		}
	}
	for i, r := range newest {
		if i == pageSize {
			s.More, s.MoreName = s.Filter.next(s.Lines[i-1]).URL(), "Next "+grouped(pageSize)
			break
		}
		s.Lines = append(s.Lines, lineOf(r, l.showKeys))
	}
	l.Sections = append(l.Sections, s)
}

func cursorAt(r store.Record) cursor { return cursor{r.Since(), keys.Downstream(r.Key)} }

// newestFirst compares a record with a place in a list of settled ones.
func newestFirst(r store.Record, c cursor) int {
	if order := c.At.Compare(r.Since()); order != 0 {
		return order
	}
	return strings.Compare(keys.Downstream(r.Key), c.Digest)
}

// Heading is what the page is about, in a few words.
func (l *list) Heading() string {
	if l.Filter.State != "" || len(l.Sections) == 0 {
		return names[l.Filter.State]
	}
	doubts := l.Sections[0]
	of := ""
	if l.IsFiltered() {
		of = ", as filtered"
	}
	switch {
	case doubts.Broken && doubts.Count.N == 0:
		return "Nobody knows what is in doubt"
	case doubts.Count.N == 0:
		return "Nothing is in doubt" + of
	case doubts.Count == count{N: 1}:
		return "One effect is in doubt" + of
	}
	return doubts.Count.String() + " effects are in doubt" + of
}

// IsFiltered reports whether something in particular was asked for, beside a state.
func (l *list) IsFiltered() bool {
	return l.Filter.Activity != "" || l.Filter.Workflow != "" || l.Filter.Namespace != ""
}

// IsOverview reports whether nothing in particular was asked for.
func (l *list) IsOverview() bool { return l.Filter == filter{} }

// AsOf is when the store was read.
func (l *list) AsOf() moment { return momentOf(l.now, l.now) }

// Looked is how many records were looked at to find those that are settled.
func (l *list) Looked() string {
	if l.looked == 0 {
		return ""
	}
	return counted(l.looked, "record")
}

// Notices are why the list may lack something.
func (l *list) Notices() (all []string) {
	switch {
	case l.err == nil:
	case isSlow(l.err) && l.looked > 0:
		all = append(all, "There was no time to look at every record: these are the newest of "+l.Looked()+". A search for a digest or a key finds a record at once.")
	default:
		all = append(all, "The store has not answered in full: this is what was read of it. The log of this page says more.")
	}
	if l.unreadable > 0 {
		all = append(all, "Left out, since they cannot be read: "+grouped(l.unreadable)+". The command doctor says more.")
	}
	return all
}

// tab is a link to another list.
type tab struct {
	Name, URL string
	Here      bool
}

// Tabs are the lists, for the same activity and so on.
func (l *list) Tabs() (all []tab) {
	for _, state := range []string{"", string(store.InDoubt), string(store.Running), string(store.Pending), settled} {
		name := names[state]
		if state == "" {
			name = "Open"
		}
		here := state == l.Filter.State || state == settled && l.Filter.State != "" && !l.Filter.IsOpen()
		all = append(all, tab{name, l.Filter.In(state).URL(), here})
	}
	return all
}

// URL is the list of an activity.
func (t *tally) URL() string { return filter{Namespace: t.Namespace, Activity: t.Activity}.URL() }

// failed notes an error of a listing, and reports whether it was the last of it.
func (l *list) failed(err error) bool {
	if isOne(err) {
		l.unreadable++
		return false
	}
	l.err = errors.Join(l.err, err)
	return true
}

// tally counts a record with those of its activity.
func (l *list) tally(r store.Record) {
	ns, activity := r.Info.Holder.Namespace, r.Info.Activity
	i := slices.IndexFunc(l.Tallies, func(t *tally) bool { return t.Namespace == ns && t.Activity == activity })
	if i < 0 {
		i = len(l.Tallies)
		l.Tallies = append(l.Tallies, &tally{Namespace: ns, Activity: activity})
	}
	t := l.Tallies[i]
	if t.of(r.State).N++; r.State == store.InDoubt && t.Oldest.ISO == "" { // they come oldest first
		t.Oldest = momentOf(r.Since(), r.Now)
	}
	l.Namespaces = l.Namespaces || t.Namespace != l.Tallies[0].Namespace
}

func (t *tally) of(state store.State) *count {
	switch state {
	case store.InDoubt:
		return &t.InDoubt
	case store.Running:
		return &t.Running
	}
	return &t.Pending
}

// sortTallies puts those with the most in doubt first, and keeps as many as fit.
func (l *list) sortTallies() {
	slices.SortFunc(l.Tallies, func(a, b *tally) int {
		return cmp.Or(b.InDoubt.N-a.InDoubt.N, b.Running.N-a.Running.N, b.Pending.N-a.Pending.N,
			strings.Compare(a.Activity, b.Activity), strings.Compare(a.Namespace, b.Namespace))
	})
	if more := len(l.Tallies) - maxTallies; more > 0 {
		l.Tallies, l.MoreTallies = l.Tallies[:maxTallies], more
	}
}

// boundTallies says that not all of a state were counted.
func (l *list) boundTallies(state store.State) {
	for _, t := range l.Tallies {
		t.of(state).More = true
	}
}

// lineOf is how a list shows a record.
func lineOf(r store.Record, showKey bool) line {
	digest := keys.Downstream(r.Key)
	l := line{
		Digest: digest, Short: digest[:16], Activity: brief(r.Info.Activity), Namespace: brief(r.Info.Holder.Namespace),
		Workflow: brief(r.Info.Holder.WorkflowID), State: string(r.State), Name: names[string(r.State)], Attempt: r.Info.Holder.Attempt,
		Since: momentOf(r.Since(), r.Now), Note: note(r), since: r.Since(),
	}
	if showKey {
		l.Key = brief(r.Key)
	}
	return l
}

// note is what is worth knowing of a record before its page is opened.
func note(r store.Record) string {
	switch {
	case r.State == store.InDoubt && r.Marked:
		return "its worker fell silent"
	case r.State == store.InDoubt:
		return "its worker does not know"
	case r.State == store.Running && r.Now.After(r.LeaseEnd):
		return "silent for " + ops.Age(r.Now.Sub(r.LeaseEnd))
	case (r.State == store.Running || r.State == store.Pending) && !r.Deadline.IsZero() && r.Now.After(r.Deadline):
		return "overdue for " + ops.Age(r.Now.Sub(r.Deadline))
	case r.By == store.ByOperator:
		return "decided by a person"
	case r.By == store.ByReconcile:
		return "found out by the guard"
	}
	return ""
}

// about says what open states mean.
var about = map[store.State]string{
	store.InDoubt: "Nobody knows whether these took effect. Oldest first.",
	store.Running: "Their workers hold the key. Oldest first.",
	store.Pending: "Their end will be reported from outside. Oldest first.",
}
