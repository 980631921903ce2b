package interceptor

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/atmostonce/atmostonce/store"
)

// ticket is what Complete needs to know of a call. Without an owner the call ran
// without a claim.
type ticket struct {
	Task   []byte
	Where  target
	Origin store.Origin
	Bid    store.Bid
	Begun  bool // the body has called once.Begin
}

// fields are those of a ticket that a token has, besides the task.
func (t *ticket) fields() []any {
	w, b, i, h := &t.Where, &t.Bid, &t.Bid.Info, &t.Bid.Info.Holder
	return []any{
		&w.Namespace, &w.WorkflowID, &h.RunID, &h.OriginalRunID, &h.ActivityRunID,
		&w.ActivityType, &w.WorkflowType, &w.TaskQueue, &w.IsLocal, &h.Worker,
		&b.Key, &i.Input, (*anyText)(&i.Match), &i.Trace, &b.Owner, &t.Origin, &h.ActivityID,
		&h.Attempt, &h.Occurrence, &b.Fence, &b.Lease, &b.TTL, &b.Deadline, (*nanoseconds)(&h.Scheduled), &b.Began, &b.Clean,
		&t.Begun, &w.Nexus.Endpoint, &w.Nexus.Service, &w.Nexus.Operation,
		&i.Ledger,
	}
}

// nanoseconds is a time that is written as their number since 1970, the zero time
// as 0.
type nanoseconds time.Time

// MarshalJSON implements json.Marshaler.
func (n nanoseconds) MarshalJSON() ([]byte, error) {
	if time.Time(n).IsZero() {
		return []byte("0"), nil
	}
	return strconv.AppendInt(nil, time.Time(n).UnixNano(), 10), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *nanoseconds) UnmarshalJSON(text []byte) error {
	ns, err := strconv.ParseInt(string(text), 10, 64)
	if ns != 0 {
		*n = nanoseconds(time.Unix(0, ns).UTC())
	}
	return err
}

// anyText is a string that a user's function has made. JSON would change what is not
// UTF-8: that is written as a list of its bytes in base64.
type anyText string

// MarshalJSON implements json.Marshaler.
func (t anyText) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(t)) {
		return json.Marshal(string(t))
	}
	return json.Marshal([1][]byte{[]byte(t)})
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *anyText) UnmarshalJSON(text []byte) error {
	var raw [1][]byte
	if text[0] != '[' {
		return json.Unmarshal(text, (*string)(t))
	}
	err := json.Unmarshal(text, &raw)
	*t = anyText(raw[0])
	return err
}

// derive sets what follows from the fields.
func (t *ticket) derive() {
	if t.Bid.Owner != "" {
		i := &t.Bid.Info
		i.Activity, i.Holder.Local = t.Where.ActivityType, t.Where.IsLocal
		i.Holder.Namespace, i.Holder.WorkflowID = t.Where.Namespace, t.Where.WorkflowID
	}
}

// maxTicket bounds what a token can grow to when it is read.
const maxTicket = 4 << 20

// usual is what tickets have in common. With another text, tokens of programs
// from before could not be read.
var usual = []byte("taken\x01clean\x01worker@1\x01\x01v1/default/o:r:n/k:/h:v1/default/w:order-\x01\x0100--00" +
	"\x01Workflow\x01first\x015\",1,0,1,60000000000,2592000000000000,59999999999,1772366400000000000,true,false,false,\"\x01\x01\"]")

// In a token, short stands between two strings. No JSON has it.
var between, short = []byte(`","`), []byte{1}

var encoding = base64.RawURLEncoding.Strict()

// String returns the token of t: its task and its fields, compressed, with a
// checksum, in the base64 of URLs.
func (t ticket) String() string {
	text, _ := json.Marshal(t.fields()) // strings, numbers and times: it cannot fail
	text = bytes.ReplaceAll(text, between, short)
	return sealToken(append(append(binary.AppendUvarint(nil, uint64(len(t.Task))), t.Task...), text...))
}

func sealToken(text []byte) string {
	var b bytes.Buffer
	w, _ := flate.NewWriterDict(&b, flate.BestCompression, usual)
	_, _ = w.Write(text)
	_ = w.Close()
	return encoding.EncodeToString(binary.BigEndian.AppendUint32(b.Bytes(), crc32.ChecksumIEEE(b.Bytes())))
}

var errToken = errors.New("atmostonce: not a token of a guarded activity: take once.Claim.Token, not Temporal's task token")

func parseToken(token string) (ticket, error) {
	data, err := encoding.DecodeString(token)
	if err != nil || len(data) < crc32.Size {
		return ticket{}, errToken
	}
	data, sum := data[:len(data)-crc32.Size], data[len(data)-crc32.Size:]
	if crc32.ChecksumIEEE(data) != binary.BigEndian.Uint32(sum) {
		return ticket{}, errToken
	}
	plain, err := io.ReadAll(io.LimitReader(flate.NewReaderDict(bytes.NewReader(data), usual), maxTicket))
	if err != nil {
		return ticket{}, errToken
	}
	size, n := binary.Uvarint(plain)
	if n <= 0 || size == 0 || size > uint64(len(plain)-n) {
		return ticket{}, errToken
	}
	t := ticket{Task: plain[n : n+int(size)]}
	fields := t.fields()
	if json.Unmarshal(bytes.ReplaceAll(plain[n+int(size):], short, between), &fields) != nil {
		return ticket{}, errToken
	}
	t.derive()
	return t, nil
}
