package redisstore

import (
	"encoding/base32"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/atmostonce/atmostonce/store"
)

// This file reads what pack.go writes.

var errPacked = errors.New("broken")

var nonceCoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// unpacker reads packed texts. It stops, for good, at one that is broken.
type unpacker struct {
	rest      string
	key, last string
	broken    bool
}

// take returns the next n bytes.
func (u *unpacker) take(n int) string {
	if n < 0 || n > len(u.rest) {
		u.broken, u.rest = true, ""
		return ""
	}
	s := u.rest[:n]
	u.rest = u.rest[n:]
	return s
}

// number returns the next n bytes as a number.
func (u *unpacker) number(n int) (number uint64) {
	for _, b := range []byte(u.take(n)) {
		number = number<<8 | uint64(b)
	}
	return number
}

// peek returns the next byte; 255, which begins no text, at the end.
func (u *unpacker) peek() byte {
	if u.rest == "" {
		return 255
	}
	return u.rest[0]
}

func (u *unpacker) raw() string {
	form := u.number(1)
	if form == formLong {
		if form = u.number(3); form > maxText {
			u.broken = true
			return ""
		}
	} else if form > shortText {
		u.broken = true
		return ""
	}
	return u.take(int(form))
}

func (u *unpacker) text() (s string) {
	defer func() { u.last = s }()
	form := u.peek()
	if form <= formLong {
		return u.raw()
	}
	u.take(1)
	var buf [64]byte
	switch form {
	case formDigest:
		return string(hex.AppendEncode(buf[:0], []byte(u.take(32))))
	case formUUID:
		b := hex.AppendEncode(buf[:0], []byte(u.take(16)))
		if u.broken {
			return ""
		}
		return string(b[:8]) + "-" + string(b[8:12]) + "-" + string(b[12:16]) + "-" + string(b[16:20]) + "-" + string(b[20:])
	case formTrace:
		b := hex.AppendEncode(buf[:0], []byte(u.take(25)))
		if u.broken {
			return ""
		}
		return "00-" + string(b[:32]) + "-" + string(b[32:48]) + "-" + string(b[48:])
	case formInKey:
		from, n := int(u.number(1)), int(u.number(1))
		if from+n <= len(u.key) {
			return u.key[from : from+n]
		}
	case formSame:
		return u.last
	case formNonce:
		return u.nonce()
	}
	u.broken = true
	return ""
}

func (u *unpacker) nonce() string {
	raw := u.take(17)
	if u.broken || raw[16]%64 != 0 {
		u.broken = true
		return ""
	}
	var buf [28]byte
	nonceCoding.Encode(buf[:], []byte(raw))
	return string(buf[:26])
}

// owner reads a nonce.
func (u *unpacker) owner() string {
	if form := u.peek(); form > formLong && form != formNonce {
		u.broken = true
		return ""
	}
	return u.text()
}

func (u *unpacker) plainKey() string {
	if u.peek() != formHashed {
		return u.raw()
	}
	u.take(1)
	first := u.raw()
	return first + hex.EncodeToString([]byte(u.take(32)))
}

func (u *unpacker) info() (i store.Info) {
	h := &i.Holder
	u.last = ""
	for _, s := range [...]*string{
		&i.Activity, &i.Input, &i.Match, &i.Trace, &h.Namespace, &h.WorkflowID, &h.RunID, &h.OriginalRunID, &h.ActivityID, &h.ActivityRunID, &h.Worker, &i.Ledger,
	} {
		*s = u.text()
	}
	local, seconds, nanos := u.number(1), u.number(5), u.number(4)
	if local > 1 || seconds > lastSecond || nanos >= 1e9 {
		u.broken = true
		return i
	}
	h.Local = local == 1
	if seconds > 0 || nanos > 0 {
		h.Scheduled = time.Unix(int64(seconds)+year1, int64(nanos)).UTC()
	}
	h.Attempt, h.Occurrence = u.count(), u.count()
	return i
}

func (u *unpacker) count() int32 {
	n := u.number(1)
	if n == 255 {
		n = u.number(4)
	}
	return int32(uint32(n))
}

func (u *unpacker) context() string {
	u.last = ""
	form := u.peek()
	if form != formRemote && form != formLocal {
		return u.text()
	}
	u.take(1)
	var s strings.Builder
	for _, word := range contextWords {
		if u.peek() == formLong {
			u.broken = true
		}
		s.WriteString(word)
		s.WriteString(u.text())
	}
	if form == formLocal {
		s.WriteString(localEnd)
	} else {
		s.WriteString(remoteEnd)
	}
	return s.String()
}

func (u *unpacker) outcome() (o store.Outcome) {
	has := u.number(1)
	if has > 15 {
		u.broken = true
	}
	o.InLedger = has&8 != 0
	if has&1 != 0 {
		n := u.number(4)
		if n > store.MaxData {
			u.broken = true
			return o
		}
		o.Data = []byte(u.take(int(n)))
	}
	if has&2 != 0 {
		o.Context = u.context()
	}
	if has&4 != 0 {
		o.Missing = u.raw()
	}
	return o
}
