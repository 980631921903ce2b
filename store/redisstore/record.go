package redisstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/atmostonce/atmostonce/store"
)

// call is what a script's reply is read against: its echoes are the caller's own
// values.
type call struct {
	bid     store.Bid
	outcome store.Outcome
}

// verdicts are the errors that come with a record.
var verdicts = map[string]error{
	"":           nil,
	"gone":       store.ErrGone,
	"superseded": store.ErrSuperseded,
	"conflict":   store.ErrConflict,
	"moved":      store.ErrMoved,
}

// bidArgs are the arguments that bid.lua reads, and rest.
func bidArgs(b store.Bid, rest []any) ([]any, error) {
	if b.Fence >= 1<<53 {
		return nil, fmt.Errorf("%w: fence over 2^53", store.ErrInvalid)
	}
	args := make([]any, 0, 7+len(rest))
	args = append(args, b.Key, b.Owner, b.Fence, micros(b.Lease), ttlArg(b.TTL), micros(b.Deadline), infoWords(b.Info))
	return append(args, rest...), nil
}

func outcomeArgs(o store.Outcome) []any {
	return []any{string(o.State), flag(o.Data != nil), o.Data, o.Context, o.Missing}
}

// micros rounds up, to a century at most: a Lua number is exact below 2^53.
func micros(d time.Duration) int64 {
	return int64((min(max(d, 0), store.LongestTTL) + time.Microsecond - 1) / time.Microsecond)
}

func ttlArg(ttl time.Duration) int64 {
	if ttl > store.LongestTTL {
		return 0
	}
	return micros(ttl)
}

func flag(set bool) string {
	if set {
		return "1"
	}
	return ""
}

var errReply = errors.New("unexpected reply of a script")

// read turns a script's reply into the record and the verdict; see read.lua and
// the quick scripts for its shapes.
func (c call) read(reply []any) (r store.Record, verdict, err error) {
	switch len(reply) {
	case 2:
		r, err = c.granted(reply)
		return r, nil, err
	case 3:
		r, err = c.settled(reply)
		return r, nil, err
	case 4:
	default:
		return store.Record{}, nil, errReply
	}
	now, ok1 := reply[0].(int64)
	word, ok2 := reply[1].(string)
	expires, ok3 := reply[2].(int64)
	fields, ok4 := reply[3].([]any)
	verdict, ok5 := verdicts[word]
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 {
		return store.Record{}, nil, errReply
	}
	r.Key, r.Now, r.Expires = c.bid.Key, fromMicros(now), fromMillis(expires)
	for i := 0; i+1 < len(fields); i += 2 {
		field, ok1 := fields[i].(string)
		value, ok2 := fields[i+1].(string)
		if !ok1 || !ok2 {
			return store.Record{}, nil, errReply
		}
		if err := c.set(&r, field, value); err != nil {
			return store.Record{}, nil, fmt.Errorf("%w: field %s", store.ErrCorrupt, field) // err may quote it
		}
	}
	if r.State == store.InDoubt && r.Outcome.Data != nil {
		r.Outcome.State = store.InDoubt
	}
	if len(fields) > 0 {
		err = r.Validate()
	}
	return r, verdict, err
}

// granted is the record of a key that had none before this bid.
func (c call) granted(reply []any) (store.Record, error) {
	at, ok1 := reply[0].(int64)
	expires, ok2 := reply[1].(int64)
	if !ok1 || !ok2 {
		return store.Record{}, errReply
	}
	b := c.bid
	r := store.Record{
		Key: b.Key, State: store.Running, Owner: b.Owner, Fence: uint64(at), Revision: 1,
		Now: fromMicros(at), LeaseEnd: fromMicros(at + micros(b.Lease)), Claimed: fromMicros(at),
		Expires: fromMillis(expires), Origin: store.First, Info: b.Info,
	}
	if b.Deadline > 0 {
		r.Deadline = fromMicros(at + micros(b.Deadline))
	}
	return r, nil
}

// settled is the record that its undisturbed owner has settled.
func (c call) settled(reply []any) (store.Record, error) {
	now, ok1 := reply[0].(int64)
	expires, ok2 := reply[1].(int64)
	head, ok3 := reply[2].(string)
	if !ok1 || !ok2 || !ok3 {
		return store.Record{}, errReply
	}
	r := store.Record{Key: c.bid.Key, Now: fromMicros(now), Expires: fromMillis(expires)}
	if err := parseHead(&r, head); err != nil {
		return store.Record{}, fmt.Errorf("%w: field head", store.ErrCorrupt) // err may quote it
	}
	c.echo(&r, "info")
	c.echo(&r, "outcome")
	return r, r.Validate()
}

// set gives r one field of the hash. Fields of a later version are ignored.
func (c call) set(r *store.Record, field, value string) (err error) {
	switch field {
	case "head":
		return parseHead(r, value)
	case "id":
		r.Key = value
	case "by":
		r.By = value
	case "info":
		r.Info, err = parseInfo(value)
	case "history":
		r.History, err = parseHistory(value)
	case "data":
		r.Outcome.Data = []byte(value)
	case "context":
		r.Outcome.Context = value
	case "missing":
		r.Outcome.Missing = value
	case "kept_data":
		kept(r).Data = []byte(value)
	case "kept_context":
		kept(r).Context = value
	case "kept_missing":
		kept(r).Missing = value
	case "echo":
		c.echo(r, value)
	}
	return err
}

func (c call) echo(r *store.Record, field string) {
	switch field {
	case "info":
		r.Info = c.bid.Info
	case "outcome":
		o := c.outcome
		r.Outcome.Data, r.Outcome.Context, r.Outcome.Missing = slices.Clone(o.Data), o.Context, o.Missing
	}
}

// parseHead reads the field head; see read.lua.
func parseHead(r *store.Record, head string) (err error) {
	part := strings.SplitN(head, " ", 12)
	if len(part) != 12 {
		return errors.New("too short")
	}
	var number [7]int64
	for i := range number {
		if number[i], err = strconv.ParseInt(part[3+i], 10, 64); err != nil {
			return err
		}
	}
	r.State, r.Origin, r.Owner = store.State(part[1]), store.Origin(part[2]), part[11]
	r.Revision, r.Fence = uint64(number[0]), uint64(number[1])
	r.Claimed, r.LeaseEnd, r.Deadline = fromMicros(number[2]), fromMicros(number[3]), fromMicros(number[4])
	r.Doubted, r.Settled = fromMicros(number[5]), fromMicros(number[6])
	r.Marked, r.Forgotten = strings.Contains(part[10], "m"), strings.Contains(part[10], "f")
	if strings.Contains(part[10], "k") {
		kept(r).State = store.Succeeded
	}
	if r.State == store.Succeeded || r.State == store.Failed {
		r.Outcome.State = r.State
	}
	return nil
}

const (
	// maxWords bounds, in bytes, all of Info and all of a history as the server keeps
	// them. It is at least what the calls let in; see lua/read.lua.
	maxWords = 4 << 20
	// maxInfoWords leaves room for words of a later version.
	maxInfoWords = 64
)

// infoWords writes an Info as words that spaces separate and that contain none.
// JSON takes six times as long, and is in every call.
func infoWords(i store.Info) string {
	h := i.Holder
	scheduled, local := "", ""
	if !h.Scheduled.IsZero() {
		scheduled = h.Scheduled.UTC().Format(time.RFC3339Nano)
	}
	if h.Local {
		local = "local"
	}
	all := [...]string{
		i.Activity, i.Input, i.Match, i.Trace, h.Namespace, h.WorkflowID, h.RunID, h.ActivityID, h.ActivityRunID,
		h.Worker, scheduled, strconv.Itoa(int(h.Attempt)), local,
		h.OriginalRunID, strconv.Itoa(int(h.Occurrence)),
	}
	words := all[:]
	if h.OriginalRunID == "" && h.Occurrence == 0 {
		words = words[:13]
	}
	for i, w := range words {
		words[i] = url.PathEscape(w)
	}
	return strings.Join(words, " ")
}

func parseInfo(value string) (i store.Info, err error) {
	if len(value) > maxWords {
		return store.Info{}, errors.New("too long")
	}
	words := strings.SplitN(value, " ", maxInfoWords)
	if len(words) < 13 {
		return store.Info{}, errors.New("too short")
	}
	for i, w := range words {
		if words[i], err = url.PathUnescape(w); err != nil {
			return store.Info{}, err
		}
	}
	attempt, err := strconv.ParseInt(words[11], 10, 32)
	if err != nil {
		return store.Info{}, err
	}
	i = store.Info{
		Activity: words[0], Input: words[1], Match: words[2], Trace: words[3],
		Holder: store.Holder{
			Namespace: words[4], WorkflowID: words[5], RunID: words[6], ActivityID: words[7], ActivityRunID: words[8],
			Worker: words[9], Attempt: int32(attempt), Local: words[12] != "",
		},
	}
	if len(words) > 14 {
		occurrence, err := strconv.ParseInt(words[14], 10, 32)
		if err != nil {
			return store.Info{}, err
		}
		i.Holder.OriginalRunID, i.Holder.Occurrence = words[13], int32(occurrence)
	}
	if words[10] != "" {
		i.Holder.Scheduled, err = time.Parse(time.RFC3339Nano, words[10])
	}
	return i, err
}

func kept(r *store.Record) *store.Outcome {
	if r.Kept == nil {
		r.Kept = new(store.Outcome)
	}
	return r.Kept
}

// parseHistory reads what cjson has written, which leaves bytes that are not UTF-8 as
// they are. JSON of Go would replace them: it gets each byte as a character instead.
func parseHistory(value string) ([]store.Turn, error) {
	if len(value) > maxWords {
		return nil, errors.New("too long")
	}
	if err := store.CheckShape([]byte(value)); err != nil {
		return nil, err
	}
	var list []struct {
		store.Turn
		At    int64  `json:"at,string"`
		Fence uint64 `json:"fence,string"`
	}
	text := utf8.ValidString(value)
	if !text {
		value = charPerByte(value)
	}
	if err := json.Unmarshal([]byte(value), &list); err != nil {
		return nil, err
	}
	events := make([]store.Turn, len(list))
	for i, e := range list {
		events[i] = e.Turn
		events[i].At, events[i].Fence = fromMicros(e.At), e.Fence
		if !text {
			eachText(&events[i], bytePerChar)
		}
	}
	return events, nil
}

// eachText replaces every text of e by what turn makes of it.
func eachText(e *store.Turn, turn func(string) string) {
	v := reflect.ValueOf(e).Elem()
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.String {
			f.SetString(turn(f.String()))
		}
	}
}

func charPerByte(s string) string {
	chars := make([]rune, len(s))
	for i := range len(s) {
		chars[i] = rune(s[i])
	}
	return string(chars)
}

func bytePerChar(s string) string {
	var raw []byte
	for _, char := range s {
		raw = append(raw, byte(char))
	}
	return string(raw)
}

// fromMicros returns the zero time for 0: never.
func fromMicros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

// fromMillis returns the zero time for 0: forever.
func fromMillis(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMilli(n).UTC()
}
