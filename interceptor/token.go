package interceptor

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"regexp"

	"go.temporal.io/sdk/converter"

	"github.com/atmostonce/atmostonce/store"
)

// ticket is what Complete needs to know of a call. Without an owner the call ran
// without a claim.
type ticket struct {
	Task   []byte
	Where  converter.ActivitySerializationContext
	Origin store.Origin
	Bid    store.Bid
}

// fields are those of a ticket that a token has, besides the task.
func (t *ticket) fields() []any {
	w, b, i, h := &t.Where, &t.Bid, &t.Bid.Info, &t.Bid.Info.Holder
	return []any{
		&w.Namespace, &w.WorkflowID, &h.RunID, &h.OriginalRunID, &h.ActivityRunID,
		&w.ActivityType, &w.WorkflowType, &w.TaskQueue, &w.IsLocal, &h.Worker,
		&b.Key, &i.Input, &i.Match, &i.Trace, &b.Owner, &t.Origin, &h.ActivityID,
		&h.Attempt, &h.Occurrence, &b.Fence, &b.Lease, &b.TTL, &b.Deadline, &h.Scheduled, &b.Began, &b.Clean,
	}
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
	"\x01Workflow\x01first\x015\",1,0,1,60000000000,2592000000000000,59999999999,\"2026-Z\",true,false]")

// In a token, short stands between two strings. No JSON has it.
var between, short = []byte(`","`), []byte{1}

var encoding = base64.RawURLEncoding.Strict()

// token returns what Claim.Token promises.
func (c *call) token(bid store.Bid, origin store.Origin) string {
	return ticket{Task: c.info.TaskToken, Where: c.codec.where, Origin: origin, Bid: bid}.String()
}

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
	_, _ = w.Write(pack(text))
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
	plain, ok := unpack(plain)
	size, n := binary.Uvarint(plain)
	if !ok || n <= 0 || size == 0 || size > uint64(len(plain)-n) {
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

// digits are what pack writes in half the space: UUIDs and digests, say.
var digits = regexp.MustCompile(`[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?:[0-9a-f]{2}){12,32}`)

// aUUID stands before the bytes of a UUID in place of their number.
const aUUID = 0xff

// pack writes text as it is up to the next digits, then the bytes that those
// stand for, and so on. Before each of them is its length.
func pack(text []byte) (packed []byte) {
	for len(text) > 0 {
		at := digits.FindIndex(text)
		if at == nil {
			at = []int{len(text), len(text)}
		}
		plain, found := text[:at[0]], text[at[0]:at[1]]
		text = text[at[1]:]
		packed = append(binary.AppendUvarint(packed, uint64(len(plain))), plain...)
		bare := bytes.ReplaceAll(found, []byte("-"), nil)
		size := byte(len(bare) / 2)
		if len(bare) < len(found) {
			size = aUUID
		}
		packed, _ = hex.AppendDecode(append(packed, size), bare)
	}
	return packed
}

// unpack undoes pack; ok is false for what pack does not write.
func unpack(packed []byte) (text []byte, ok bool) {
	for len(packed) > 0 {
		plain, n := binary.Uvarint(packed)
		if n <= 0 || plain >= uint64(len(packed)-n) {
			return nil, false
		}
		text, packed = append(text, packed[n:n+int(plain)]...), packed[n+int(plain):]
		size := packed[0]
		bare := int(size)
		if size == aUUID {
			bare = 16
		}
		if packed = packed[1:]; bare > len(packed) {
			return nil, false
		}
		b := packed[:bare]
		packed = packed[bare:]
		if size == aUUID {
			text = fmt.Appendf(text, "%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
		} else {
			text = hex.AppendEncode(text, b)
		}
	}
	return text, true
}
