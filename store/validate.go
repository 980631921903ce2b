package store

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"time"
)

// MaxData is the size in bytes of the largest Outcome.Data that a store keeps. A
// larger one is refused with ErrInvalid before anything is written, and a record
// that has one is corrupt. The guard does not give a store more.
const MaxData = 16 << 20

// Bounds of the rest of a record, in bytes. Record.Validate lets in at least what
// the calls let in.
const (
	maxText    = 64 << 10 // a key, a text of Info, a context, why data is missing
	maxName    = 512      // a nonce, who decided
	maxWhy     = 4 << 10
	maxTexts   = 16 << 20 // all texts of Info and of a history; what is not UTF-8 has grown on the way
	maxFile    = 4 * MaxData
	maxPieces  = 10_000 // of JSON: values, keys, brackets
	maxNesting = 16
)

// Validate refuses, with ErrInvalid, a bid that lacks what every call needs, or that
// is over a bound. Every verb of a store that takes a bid asks it first; it does not
// look at Fence and Deadline.
func (b Bid) Validate() error {
	switch {
	case b.Key == "":
		return fmt.Errorf("%w: empty key", ErrInvalid)
	case len(b.Key) > maxText:
		return fmt.Errorf("%w: key of %d bytes, over %d", ErrInvalid, len(b.Key), maxText)
	case b.Owner == "":
		return fmt.Errorf("%w: bid without a nonce", ErrInvalid)
	case len(b.Owner) > maxName:
		return fmt.Errorf("%w: nonce of %d bytes, over %d", ErrInvalid, len(b.Owner), maxName)
	case b.Lease < time.Millisecond:
		return fmt.Errorf("%w: lease of %v, under 1ms", ErrInvalid, b.Lease)
	case b.TTL < time.Millisecond:
		return fmt.Errorf("%w: TTL of %v, under 1ms", ErrInvalid, b.TTL)
	}
	for _, text := range b.Info.texts() {
		if len(text) > maxText {
			return fmt.Errorf("%w: a text of Info has %d bytes, over %d", ErrInvalid, len(text), maxText)
		}
	}
	return nil
}

// Validate refuses, with ErrInvalid, an outcome that says nothing or that is over a
// bound. A store's Settle asks it before anything is written.
func (o Outcome) Validate() error {
	switch o.State {
	case Succeeded, Failed, InDoubt, Pending:
		return o.fits(ErrInvalid)
	}
	return fmt.Errorf("%w: no outcome: %q", ErrInvalid, o.State)
}

// fits reports, as a kind of err, an outcome over a bound.
func (o Outcome) fits(err error) error {
	switch {
	case len(o.Data) > MaxData:
		return fmt.Errorf("%w: outcome of %d bytes, over %d", err, len(o.Data), MaxData)
	case len(o.Context) > maxText || len(o.Missing) > maxText:
		return fmt.Errorf("%w: outcome with a context of %d bytes, and %d bytes of why it is missing, over %d", err, len(o.Context), len(o.Missing), maxText)
	}
	return nil
}

// Validate refuses, with ErrInvalid, a resolution that decides nothing, that nobody
// has signed, or that is over a bound. A store's Resolve asks it before anything is
// written.
func (r Resolution) Validate() error {
	switch {
	case r.To != Succeeded && r.To != Failed && r.To != Tombstone:
		return fmt.Errorf("%w: cannot resolve to %q", ErrInvalid, r.To)
	case r.Erase && r.To != Tombstone:
		return fmt.Errorf("%w: an erasure leaves a tombstone, not %q", ErrInvalid, r.To)
	case r.ID == "" || r.By == "":
		return fmt.Errorf("%w: resolution without a nonce or an author", ErrInvalid)
	case len(r.ID) > maxName || len(r.By) > maxName || len(r.Who) > maxName || len(r.Why) > maxWhy:
		return fmt.Errorf("%w: resolution with a nonce of %d bytes, an author of %d or a person of %d, over %d, or a reason of %d, over %d",
			ErrInvalid, len(r.ID), len(r.By), len(r.Who), maxName, len(r.Why), maxWhy)
	case r.TTL < time.Millisecond && !r.Erase:
		return fmt.Errorf("%w: TTL of %v, under 1ms", ErrInvalid, r.TTL)
	}
	return r.Outcome.fits(ErrInvalid)
}

// texts are the texts of i.
func (i Info) texts() []string {
	h := i.Holder
	return []string{
		i.Activity, i.Input, i.Match, i.Ledger, i.Trace, h.Namespace, h.WorkflowID, h.RunID, h.ActivityID, h.ActivityRunID, h.Worker,
		h.OriginalRunID,
	}
}

// Validate refuses, with ErrCorrupt, a record that no verb writes: one that lacks a
// field, contradicts itself or is over a bound. A store asks it about every record that
// it reads from where others may write. An absent record needs no check.
func (r Record) Validate() error {
	switch {
	case r.Key == "" || r.Owner == "" || r.Fence == 0 || r.Revision == 0:
		return fmt.Errorf("%w: no key, owner, fence or revision", ErrCorrupt)
	case r.Generation > r.Revision:
		return fmt.Errorf("%w: more generations than writes", ErrCorrupt)
	case r.Origin != First && r.Origin != Taken && r.Origin != Clean:
		return fmt.Errorf("%w: unknown origin", ErrCorrupt)
	case !r.State.IsOpen() && r.State != Succeeded && r.State != Failed && r.State != Tombstone:
		return fmt.Errorf("%w: unknown state", ErrCorrupt)
	case len(r.Key) > maxText || len(r.Owner) > maxName || len(r.By) > maxText:
		return fmt.Errorf("%w: key, owner or author too long", ErrCorrupt)
	case len(r.History) > maxHistory:
		return fmt.Errorf("%w: %d events, over %d", ErrCorrupt, len(r.History), maxHistory)
	case !r.isTimely():
		return fmt.Errorf("%w: the times are not those of a record that is %s", ErrCorrupt, r.State)
	case !r.hasItsOutcome():
		return fmt.Errorf("%w: the outcome is not one of a record that is %s", ErrCorrupt, r.State)
	}
	words := 0
	for _, text := range r.Info.texts() {
		words += len(text)
	}
	for _, e := range r.History {
		if e.What == "" {
			return fmt.Errorf("%w: an event of no kind", ErrCorrupt)
		}
		words += len(e.What) + len(e.From) + len(e.Owner) + len(e.By) + len(e.Who) + len(e.Why) + len(e.ID)
	}
	if words > maxTexts {
		return fmt.Errorf("%w: texts of %d bytes", ErrCorrupt, words)
	}
	if r.Kept != nil {
		if err := r.Kept.fits(ErrCorrupt); err != nil {
			return err
		}
	}
	return r.Outcome.fits(ErrCorrupt)
}

// isTimely reports whether r has the times of its state, and no others.
func (r Record) isTimely() bool {
	leased, doubted, settled := !r.LeaseEnd.IsZero(), !r.Doubted.IsZero(), !r.Settled.IsZero()
	if r.Claimed.IsZero() || r.Marked && r.State != InDoubt {
		return false
	}
	switch r.State {
	case Running:
		return leased && !doubted && !settled // in any order: the clock may have been set
	case InDoubt:
		return doubted && !leased && !settled
	case Pending, Succeeded, Failed, Tombstone:
		return settled && !leased && !doubted
	}
	return false // no such state
}

// hasItsOutcome reports whether r has an outcome of its state, or none where the
// state has none.
func (r Record) hasItsOutcome() bool {
	if r.Kept != nil && (r.State != Running && r.State != Pending || r.Kept.State != Succeeded) {
		return false
	}
	switch o := r.Outcome; r.State {
	case Succeeded, Failed:
		return o.State == r.State
	case InDoubt:
		return o.IsZero() || !r.Marked && o.State == InDoubt && len(o.Data) > 0 && o.Missing == "" && !o.InLedger
	default:
		return o.IsZero()
	}
}

// CheckShape refuses, with ErrCorrupt, JSON that would cost more to decode than any
// record: of too many pieces, too deep, or with too long a string. A store that keeps
// JSON asks it before it decodes what others may have written. It does not look at
// whether data is JSON at all.
func CheckShape(data []byte) error {
	longest := base64.StdEncoding.EncodedLen(MaxData)
	pieces, depth := 0, 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			n := stringEnd(data[i+1:])
			if n > longest {
				return fmt.Errorf("%w: a text of %d bytes", ErrCorrupt, n)
			}
			i += n + 1
		case '{', '[':
			depth++
			pieces++
		case '}', ']':
			depth--
		case ',', ':':
			pieces++
		}
		if pieces > maxPieces || depth > maxNesting {
			return fmt.Errorf("%w: more values, or deeper ones, than a record has", ErrCorrupt)
		}
	}
	return nil
}

// stringEnd returns where the string that data begins in ends.
func stringEnd(data []byte) int {
	for i := 0; ; {
		n := bytes.IndexAny(data[i:], `"\`)
		if n < 0 {
			return len(data)
		}
		if i += n; data[i] == '"' {
			return i
		}
		if i += 2; i > len(data) {
			return len(data)
		}
	}
}
