package redisstore

import (
	"encoding/binary"
	"strings"

	"github.com/atmostonce/atmostonce/store"
)

// This file packs the texts of a record. Most are digests, IDs, or parts of the key.
//
// A packed text begins with a byte: below 192 it is the length of the text that
// follows, else one of these forms. The same text is always packed in the same way
// after the same key and text, so that scripts compare it as it is.
const (
	formLong   = 192 // 3 bytes of length, and the text
	formDigest = 194 // 32 bytes: 64 hexadecimal digits
	formUUID   = 195 // 16 bytes
	formNonce  = 196 // 17 bytes: 26 characters of base32, as crypto/rand.Text makes them
	formTrace  = 197 // 25 bytes: a W3C traceparent of version 00
	formInKey  = 198 // from where in the key, and how many bytes
	formSame   = 199 // the text before it
	formRemote = 200 // five texts: the context that an activity's outcome has
	formLocal  = 201 // likewise, of a local activity
	formHashed = 202 // of a key: a text, and the 64 hexadecimal digits after it as 32 bytes

	shortText = formLong - 1
	// maxText is the longest text of a record; see package store.
	maxText = 64 << 10
)

// contextWords are between the five texts of formRemote and formLocal. A context is
// the caller's and may be any text: only one of exactly this form is packed.
var contextWords = [...]string{`{"Namespace":"`, `","WorkflowID":"`, `","WorkflowType":"`, `","ActivityType":"`, `","TaskQueue":"`}

const (
	remoteEnd = `","IsLocal":false}`
	localEnd  = `","IsLocal":true}`
)

// packer appends packed texts.
type packer struct {
	buf       []byte
	key, last string
}

func (p *packer) raw(s string) {
	if len(s) > shortText {
		p.buf = append(p.buf, formLong, byte(len(s)>>16), byte(len(s)>>8))
	}
	p.buf = append(p.buf, byte(len(s)))
	p.buf = append(p.buf, s...)
}

func (p *packer) text(s string) {
	defer func() { p.last = s }()
	switch {
	case s != "" && s == p.last:
		p.buf = append(p.buf, formSame)
		return
	case len(s) > 2 && len(s) < 256:
		if from := strings.Index(p.key[:min(len(p.key), 255+len(s))], s); from >= 0 {
			p.buf = append(p.buf, formInKey, byte(from), byte(len(s)))
			return
		}
	}
	switch n := len(s); {
	case n == 64 && p.digits(formDigest, s),
		n == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' && p.digits(formUUID, s[:8], s[9:13], s[14:18], s[19:23], s[24:]),
		n == 55 && s[:3] == "00-" && s[35] == '-' && s[52] == '-' && p.digits(formTrace, s[3:35], s[36:52], s[53:]):
	default:
		p.raw(s)
	}
}

// digits appends a form of lower-case hexadecimal digits; nothing if they are not
// that.
func (p *packer) digits(form byte, parts ...string) bool {
	start := len(p.buf)
	p.buf = append(p.buf, form)
	for _, part := range parts {
		if !p.bytesOf(part) {
			p.buf = p.buf[:start]
			return false
		}
	}
	return true
}

// bytesOf appends the bytes of which s has the lower-case hexadecimal digits. It reports
// false, having appended some, if s is not that.
func (p *packer) bytesOf(s string) bool {
	for i := 0; i < len(s); i += 2 {
		high, low := digit(s[i]), digit(s[i+1])
		if high > 15 || low > 15 {
			return false
		}
		p.buf = append(p.buf, high<<4|low)
	}
	return true
}

func digit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}

// owner appends a nonce.
func (p *packer) owner(nonce string) {
	if len(nonce) == 26 {
		start := len(p.buf)
		p.buf = append(p.buf, formNonce)
		if packed, ok := packNonce(p.buf, nonce); ok {
			p.buf = packed
			return
		}
		p.buf = p.buf[:start]
	}
	p.raw(nonce)
}

// packNonce appends 26 characters of 5 bits each; the last 6 bits are 0.
func packNonce(buf []byte, nonce string) ([]byte, bool) {
	bits, n := uint(0), 0
	for i := range len(nonce) {
		var five uint
		switch c := nonce[i]; {
		case c >= 'A' && c <= 'Z':
			five = uint(c - 'A')
		case c >= '2' && c <= '7':
			five = uint(c-'2') + 26
		default:
			return nil, false
		}
		bits, n = bits<<5|five, n+5
		if n >= 8 {
			n -= 8
			buf = append(buf, byte(bits>>n))
		}
	}
	return append(buf, byte(bits<<(8-n))), true
}

// plainKey appends a key.
func (p *packer) plainKey(key string) {
	start, cut := len(p.buf), len(key)-64
	if cut >= 0 {
		p.buf = append(p.buf, formHashed)
		p.raw(key[:cut])
		if p.bytesOf(key[cut:]) {
			return
		}
		p.buf = p.buf[:start]
	}
	p.raw(key)
}

func (p *packer) info(i store.Info) {
	h := i.Holder
	p.last = ""
	for _, s := range [...]string{
		i.Activity, i.Input, i.Match, i.Trace, h.Namespace, h.WorkflowID, h.RunID, h.OriginalRunID, h.ActivityID, h.ActivityRunID, h.Worker, i.Ledger,
	} {
		p.text(s)
	}
	local := byte(0)
	if h.Local {
		local = 1
	}
	seconds := uint64(h.Scheduled.Unix() - year1)
	p.buf = append(p.buf, local, byte(seconds>>32))
	p.buf = binary.BigEndian.AppendUint32(p.buf, uint32(seconds))
	p.buf = binary.BigEndian.AppendUint32(p.buf, uint32(h.Scheduled.Nanosecond()))
	p.count(h.Attempt)
	p.count(h.Occurrence)
}

// year1 is the second of the zero time; lastSecond the last of the year 9999 after it.
const (
	year1      = -62135596800
	lastSecond = 315537897599
)

func (p *packer) count(n int32) {
	if n >= 0 && n < 255 {
		p.buf = append(p.buf, byte(n))
		return
	}
	p.buf = binary.BigEndian.AppendUint32(append(p.buf, 255), uint32(n))
}

func (p *packer) context(s string) {
	p.last = ""
	var texts [len(contextWords)]string
	rest, known := strings.CutPrefix(s, contextWords[0])
	for i := 0; known && i < len(texts)-1; i++ {
		texts[i], rest, known = strings.Cut(rest, contextWords[i+1])
	}
	form := byte(formRemote)
	if known {
		if texts[len(texts)-1], known = strings.CutSuffix(rest, remoteEnd); !known {
			form = formLocal
			texts[len(texts)-1], known = strings.CutSuffix(rest, localEnd)
		}
	}
	for _, t := range texts {
		known = known && len(t) <= shortText
	}
	if !known {
		p.text(s)
		return
	}
	p.buf = append(p.buf, form)
	for _, t := range texts {
		p.text(t)
	}
}

// outcome appends what o says besides its state: a byte that says what there is,
// data, context and missing.
func (p *packer) outcome(o store.Outcome) {
	at := len(p.buf)
	p.buf = append(p.buf, 0)
	if o.Data != nil {
		p.buf[at] |= 1
		p.buf = binary.BigEndian.AppendUint32(p.buf, uint32(len(o.Data)))
		p.buf = append(p.buf, o.Data...)
	}
	if o.Context != "" {
		p.buf[at] |= 2
		p.context(o.Context)
	}
	if o.Missing != "" {
		p.buf[at] |= 4
		p.raw(o.Missing)
	}
	if o.InLedger {
		p.buf[at] |= 8
	}
}
