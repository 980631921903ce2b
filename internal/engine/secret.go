package engine

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"

	"github.com/atmostonce/atmostonce/keys"
)

// minSecret is the least length of a secret, in bytes.
const minSecret = 16

// Secret hides inputs and keys behind an HMAC; an empty one hides nothing.
type Secret []byte

// hide returns what stands for text in keys and records.
func (s Secret) hide(text string) string {
	if len(s) == 0 || text == "" {
		return text
	}
	mac := hmac.New(sha256.New, s)
	mac.Write([]byte(text)) // it never fails
	return hex.EncodeToString(mac.Sum(nil))
}

// hidden returns a key function whose keys are hidden.
func (s Secret) hidden(f keys.Func) keys.Func {
	if len(s) == 0 {
		return f
	}
	return keys.FromCall(func(c keys.Call) (string, error) {
		part, err := f.Part(c)
		return s.hide(part), err
	})
}
