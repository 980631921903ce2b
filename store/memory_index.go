package store

import (
	"context"
	"iter"
	"slices"
	"strings"
	"time"
)

// openList holds the entries whose records are running, in doubt or pending, in no
// order: putting them in order is left to the few that list them.
type openList []*entry

// place puts e in, or takes it out.
func (l *openList) place(e *entry) {
	switch open := e.record.State.IsOpen(); {
	case open && e.open < 0:
		e.open = len(*l)
		*l = append(*l, e)
	case !open && e.open >= 0:
		l.remove(e)
	}
}

func (l *openList) remove(e *entry) {
	if e.open < 0 {
		return
	}
	last := len(*l) - 1
	(*l)[e.open] = (*l)[last]
	(*l)[e.open].open = e.open
	(*l)[last] = nil
	*l = (*l)[:last]
	e.open = -1
}

// List implements [Store]. A listing of an open state shows one moment.
func (m *Memory) List(ctx context.Context, q Query) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if q.OnlyState().IsOpen() {
			for _, r := range m.listOpen(q) {
				if ctx.Err() != nil {
					break
				}
				if !yield(r, nil) {
					return
				}
			}
			if err := ctx.Err(); err != nil {
				yield(Record{}, err)
			}
			return
		}
		for _, key := range m.keys(q.Digest) {
			r, err := m.Load(ctx, key)
			if err == nil && (r.State == Absent || !q.Matches(r)) {
				continue
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

func (m *Memory) listOpen(q Query) []Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	m.forget(now)
	var records []Record
	for _, e := range m.open {
		r := e.record
		r.Now = now
		if q.Matches(r) {
			records = append(records, r.clone())
		}
	}
	slices.SortFunc(records, Record.Compare)
	return records
}

// keys returns the keys whose digests begin so.
func (m *Memory) keys(prefix string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []string
	for key := range m.entries {
		if prefix == "" || strings.HasPrefix(digest(key), prefix) {
			keys = append(keys, key)
		}
	}
	return keys
}
