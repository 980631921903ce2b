package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// This file is what the verbs do with records: they are found, turned and written under
// the lock of the store, and answered when that is durable.

// records are those of a handle.
type records struct {
	queue  *queue
	claims *claims
}

// stored is a record in the log.
type stored struct {
	Record
	claim string   // the name of the slot of a running one
	line  lastLine // its last line, if it has one
}

// lives reports whether the owner of a running record does, which has named its slot.
func (rs *records) lives(claim string) (bool, error) {
	if claim == "" {
		return false, nil
	}
	return rs.claims.ownerLives(claim)
}

// update runs one transition on the record of key.
func (rs *records) update(ctx context.Context, key, nonce string, turn func(*stored, time.Time) (bool, error)) (Record, error) {
	var r stored
	var answer error
	var kept bool
	k := claimed{idOf(key), nonce}
	err := rs.queue.ask(&request{
		ctx: ctx,
		job: func(l *log) (end durable, err error) {
			now := clock()
			if r, err = rs.find(l, key, now); err != nil {
				return durable{}, err
			}
			was := r.State
			var changed bool
			if changed, answer = turn(&r, now); answer != nil && !isAnswer(answer) {
				return durable{}, answer
			}
			if r.Owned(nonce) {
				// Before the record says so: nobody may see a running claim unlocked.
				slot := r.claim
				if was != Running {
					slot = ""
				}
				if slot, kept, err = rs.claims.hold(k, slot); err != nil {
					return durable{}, err
				}
				changed = changed || slot != r.claim
				r.claim = slot
			}
			r.Now = now
			if !changed {
				return r.line.end(), nil
			}
			return rs.write(l, &r)
		},
		ended: func(a *request, err error) {
			owned := err == nil && r.Owned(nonce)
			// An owner that got no answer does not know that it is one.
			if kept {
				rs.claims.heard(k, owned && a.stays())
			}
			if err == nil && !owned && nonce != "" {
				rs.claims.over(k)
			}
		},
	})
	if err == nil && r.Owned(nonce) {
		err = rs.claims.usable(context.WithoutCancel(ctx)) // Close has ended the claim meanwhile
	}
	if err != nil {
		return Record{}, err
	}
	return r.Record, answer
}

// isAnswer reports whether an error of the protocol comes with the record.
func isAnswer(err error) bool {
	return errors.Is(err, ErrSuperseded) || errors.Is(err, ErrConflict) || errors.Is(err, ErrMoved) || errors.Is(err, ErrGone)
}

// find returns the record of key as it is remembered now.
func (rs *records) find(l *log, key string, now time.Time) (stored, error) {
	none := stored{Record: Record{Key: key}}
	k := idOf(key)
	e, found, unsure := l.index.find(k)
	if unsure {
		return none, errUnknown(l)
	}
	if !found {
		return none, nil
	}
	none.line = e
	text, err := l.lineAt(e)
	if err != nil {
		return none, err
	}
	r, claim, err := decodeLine(text)
	if err == nil && r.Key != key {
		err = fmt.Errorf("%w: it is about another key, whose digest is %s", ErrCorrupt, digest(r.Key))
	}
	if err != nil {
		return none, fmt.Errorf("%w (in %s, byte %d)", err, l.segment(e.at.segment).path, e.at.at)
	}
	gone, err := rs.forgotten(r, claim, now)
	if gone || err != nil {
		return none, err
	}
	return stored{r, claim, e}, nil
}

// in returns the record in a line that was read; its State is Absent if it is not
// remembered now.
func (rs *records) in(text []byte, now time.Time) (Record, error) {
	r, claim, err := decodeLine(text)
	if err != nil {
		return Record{}, err
	}
	gone, err := rs.forgotten(r, claim, now)
	if gone || err != nil {
		return Record{}, err
	}
	return r, nil
}

// forgotten reports whether a record is not remembered now. A running one is, for as long
// as its owner lives: one that was suspended, or whose clock was set, could not renew it.
func (rs *records) forgotten(r Record, claim string, now time.Time) (bool, error) {
	if r.State != Running || !r.expired(now) {
		return r.expired(now), nil
	}
	alive, err := rs.lives(claim)
	return !alive, err
}

// decodeLine returns the record in a line, and the slot of its claim.
func decodeLine(text []byte) (Record, string, error) {
	ln, err := parseLine(text)
	if err != nil {
		return Record{}, "", err
	}
	r, err := decodeRecord(ln.body)
	if err == nil && digest(r.Key) != ln.digest {
		err = fmt.Errorf("%w: it is about another key, whose digest is %s", ErrCorrupt, digest(r.Key))
	}
	return r, ln.claim, err
}

func errUnknown(l *log) error {
	at := l.index.unknown[0]
	return fmt.Errorf("%w (in %s, byte %d: nobody knows whose it is)", errSum, l.segment(at.segment).path, at.at)
}

// write writes the record to the log.
func (rs *records) write(l *log, r *stored) (durable, error) {
	body, err := encodeRecord(r.Record)
	if err == nil && len(body) > maxFile {
		err = fmt.Errorf("a record of %d bytes", len(body))
	}
	if err != nil {
		return durable{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	ln := line{digest: digest(r.Key), state: r.State, expires: seconds(r.Expires), before: r.line.at, body: body}
	if r.State == Running {
		ln.claim = r.claim
	}
	return l.append(ln)
}
