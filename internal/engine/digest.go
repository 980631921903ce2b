package engine

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/atmostonce/atmostonce/resolve"
)

// A digest has digestDigits hexadecimal digits. Fewer than minDigits would too
// easily be somebody else's.
const (
	digestDigits = 64
	minDigits    = 8
)

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
