package store

import (
	"context"
	"iter"
	"runtime"
	"slices"
	"sync"
)

// listed is how many records a listing reads under one lock.
const listed = 256

// List implements [Store]. It finds what is running, in doubt or pending, and a record by
// its Digest, without a look at the others. Any other query reads every record.
func (f *File) List(ctx context.Context, q Query) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		state := q.OnlyState()
		var ids []id
		err := f.queue.ask(&request{ctx: ctx, job: func(l *log) (durable, error) {
			ids = l.index.matching(q.Digest, state)
			if len(l.index.unknown) > 0 {
				return durable{}, errUnknown(l)
			}
			return durable{}, nil
		}})
		if err != nil && (!yield(Record{}, err) || f.claims.usable(ctx) != nil) {
			return
		}
		if state.IsOpen() {
			f.listOpen(ctx, q, ids, yield)
			return
		}
		for chunk := range slices.Chunk(ids, listed) {
			for _, a := range f.loadAll(ctx, chunk, q) {
				if !yield(a.r, a.err) || a.err != nil && f.claims.usable(ctx) != nil {
					return
				}
			}
		}
	}
}

// listOpen yields the records of an open state that match, oldest first, after the
// errors of those that cannot be read.
func (f *File) listOpen(ctx context.Context, q Query, ids []id, yield func(Record, error) bool) {
	var records []Record
	for chunk := range slices.Chunk(ids, listed) {
		for _, a := range f.loadAll(ctx, chunk, q) {
			if a.err == nil {
				records = append(records, a.r)
			} else if !yield(Record{}, a.err) || f.claims.usable(ctx) != nil {
				return
			}
		}
	}
	slices.SortFunc(records, Record.Compare)
	for _, r := range records {
		if !yield(r, nil) {
			return
		}
	}
}

// read is a record that was read, or why it was not.
type read struct {
	text []byte
	r    Record
	err  error
}

// loadAll returns the records of these keys that match, and the errors of those that
// cannot be read.
func (f *File) loadAll(ctx context.Context, ids []id, q Query) []read {
	reads := make([]read, len(ids))
	now := clock()
	err := f.queue.ask(&request{ctx: ctx, job: func(l *log) (end durable, _ error) {
		for i, k := range ids {
			e, found := l.index.entries[k]
			if !found {
				continue
			}
			if reads[i].text, reads[i].err = l.lineAt(e); reads[i].err == nil && lineStates[e.state] == Running {
				reads[i].r, reads[i].err = f.records.in(reads[i].text, now) // of its owner, nothing is known without the lock
				reads[i].text = nil
			}
			if at := e.end(); end.segment < at.segment || end.segment == at.segment && end.size < at.size {
				end = at
			}
		}
		return end, nil
	}})
	if err != nil {
		return []read{{err: err}}
	}
	workers := min(runtime.GOMAXPROCS(0), len(reads)/16+1)
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for i := w; i < len(reads); i += workers {
				if a := &reads[i]; a.text != nil && a.err == nil {
					a.r, _, a.err = decodeLine(a.text)
					if a.err == nil && a.r.expired(now) {
						a.r = Record{}
					}
				}
			}
		})
	}
	all.Wait()
	for i := range reads {
		reads[i].r.Now = now
	}
	return slices.DeleteFunc(reads, func(a read) bool {
		return a.err == nil && (a.r.State == Absent || !q.Matches(a.r))
	})
}
