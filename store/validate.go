package store

import (
	"fmt"
	"time"
)

func (b Bid) validate() error {
	switch {
	case b.Key == "":
		return fmt.Errorf("%w: empty key", ErrInvalid)
	case b.Owner == "":
		return fmt.Errorf("%w: bid without a nonce", ErrInvalid)
	case b.Lease < time.Millisecond:
		return fmt.Errorf("%w: lease of %v, under 1ms", ErrInvalid, b.Lease)
	case b.TTL < time.Millisecond:
		return fmt.Errorf("%w: TTL of %v, under 1ms", ErrInvalid, b.TTL)
	}
	return nil
}

func (o Outcome) validate() error {
	switch o.State {
	case Succeeded, Failed, InDoubt, Pending:
		return nil
	}
	return fmt.Errorf("%w: no outcome: %q", ErrInvalid, o.State)
}

func (r Resolution) validate() error {
	switch {
	case r.To != Succeeded && r.To != Failed && r.To != Tombstone:
		return fmt.Errorf("%w: cannot resolve to %q", ErrInvalid, r.To)
	case r.Erase && r.To != Tombstone:
		return fmt.Errorf("%w: an erasure leaves a tombstone, not %q", ErrInvalid, r.To)
	case r.ID == "" || r.By == "":
		return fmt.Errorf("%w: resolution without a nonce or an author", ErrInvalid)
	case r.TTL < time.Millisecond && !r.Erase:
		return fmt.Errorf("%w: TTL of %v, under 1ms", ErrInvalid, r.TTL)
	}
	return nil
}
