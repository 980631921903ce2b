package e2e

import (
	"errors"
	"os"
	"strings"
)

// ledger is the outside world: a file, one fsynced line for each thing that
// happened. Processes may share it.
type ledger string

func (l ledger) write(words ...string) error {
	f, err := os.OpenFile(string(l), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strings.Join(words, " ") + "\n")
	return errors.Join(err, f.Sync(), f.Close())
}

// lines returns the lines that begin with that word.
func (l ledger) lines(word string) []string {
	text, err := os.ReadFile(string(l))
	if err != nil {
		return nil // nothing has happened yet
	}
	var found []string
	for line := range strings.Lines(string(text)) {
		if first, rest, _ := strings.Cut(strings.TrimSpace(line), " "); first == word {
			found = append(found, rest)
		}
	}
	return found
}

// The words of the ledger.
const (
	begun   = "begun"   // a body started
	charged = "charged" // the effect
	asked   = "asked"   // a reconcile function was called
	keyed   = "keyed"   // the idempotency key that a body was given
)
