package interceptor

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"

	"github.com/atmostonce/atmostonce/keys"
)

// minSecret is the least length of Options.KeySecret, in bytes.
const minSecret = 16

// hide returns what stands for text in keys and records.
func (g *Guard) hide(text string) string {
	if len(g.options.KeySecret) == 0 || text == "" {
		return text
	}
	mac := hmac.New(sha256.New, g.options.KeySecret)
	mac.Write([]byte(text)) // it never fails
	return hex.EncodeToString(mac.Sum(nil))
}

// hidden returns a key function whose keys are hidden.
func (g *Guard) hidden(f keys.Func) keys.Func {
	if len(g.options.KeySecret) == 0 {
		return f
	}
	return keys.FromCall(func(c keys.Call) (string, error) {
		part, err := f.Part(c)
		return g.hide(part), err
	})
}
