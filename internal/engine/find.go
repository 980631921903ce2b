package engine

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

// A digest has digestDigits hexadecimal digits. Fewer than minDigits would be
// somebody else's too easily.
const (
	digestDigits = 64
	minDigits    = 8
)

// Find returns the one record whose key has the digest.
func (e *Engine) Find(ctx context.Context, digest string) (store.Record, error) {
	r, err := e.find(ctx, strings.ToLower(digest))
	if err != nil {
		return r, fmt.Errorf("atmostonce: find %q: %w", digest, err)
	}
	return r, nil
}

func (e *Engine) find(ctx context.Context, digest string) (store.Record, error) {
	if err := checkDigest(digest); err != nil {
		return store.Record{}, err
	}
	found := map[string]store.Record{}
	for r, err := range e.store.List(ctx, store.Query{Digest: digest}) {
		if err != nil {
			return store.Record{}, err
		}
		if known, again := found[r.Key]; !again || known.Revision < r.Revision { // a listing may say it twice
			found[r.Key] = r
		}
	}
	all := slices.Collect(maps.Values(found))
	switch len(all) {
	case 0:
		return store.Record{}, fmt.Errorf("%w: it was never made, is no longer remembered, or is in another store; then the next call runs", resolve.ErrNotFound)
	case 1:
		return all[0], nil
	}
	return store.Record{}, fmt.Errorf("%w: give more of its digits, as in %s and %s", resolve.ErrAmbiguous,
		keys.Downstream(all[0].Key), keys.Downstream(all[1].Key))
}

func checkDigest(digest string) error {
	_, err := hex.DecodeString(digest + strings.Repeat("0", len(digest)%2))
	switch {
	case digest == "":
		return fmt.Errorf("%w: it is empty, and every key's begins with that", resolve.ErrDigest)
	case err != nil || len(digest) > digestDigits:
		return fmt.Errorf("%w: that is up to %d hexadecimal digits, as errors, log lines and spans show them", resolve.ErrDigest, digestDigits)
	case len(digest) < minDigits:
		return fmt.Errorf("%w: give at least %d digits, so that it is nobody else's", resolve.ErrDigest, minDigits)
	}
	return nil
}
