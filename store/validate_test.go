//go:build linux || darwin

package store

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// requireCheap bounds what f may take for an input of that many bytes.
func requireCheap(t *testing.T, input int, f func()) {
	t.Helper()
	var before, after runtime.MemStats
	began := time.Now()
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	require.LessOrEqual(t, after.TotalAlloc-before.TotalAlloc, uint64(20*input+16<<20), "bytes allocated for an input of %d", input)
	require.Less(t, time.Since(began), 10*time.Second)
}

// someRecord is a record that Validate accepts.
func someRecord(s State) Record {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	r := Record{Key: "k", State: s, Owner: "a", Fence: 1, Revision: 1, Claimed: at, Origin: First}
	switch s {
	case Running:
		r.LeaseEnd = at.Add(time.Minute)
	case InDoubt:
		r.Doubted = at
	default:
		r.Settled = at
	}
	if s == Succeeded || s == Failed {
		r.Outcome.State = s
	}
	return r
}

var recordStates = []State{Running, InDoubt, Pending, Succeeded, Failed, Tombstone}

// contradictions are records that no verb writes.
var contradictions = map[string]struct {
	states []State
	change func(*Record)
}{
	"no key":            {recordStates, func(r *Record) { r.Key = "" }},
	"no owner":          {recordStates, func(r *Record) { r.Owner = "" }},
	"no fence":          {recordStates, func(r *Record) { r.Fence = 0 }},
	"no revision":       {recordStates, func(r *Record) { r.Revision = 0 }},
	"no state":          {recordStates, func(r *Record) { r.State = Absent }},
	"in the ledger":     {[]State{Running, InDoubt, Pending, Tombstone}, func(r *Record) { r.Outcome.InLedger = true }},
	"many generations":  {recordStates, func(r *Record) { r.Generation = r.Revision + 1 }},
	"unknown state":     {recordStates, func(r *Record) { r.State = "asleep" }},
	"no origin":         {recordStates, func(r *Record) { r.Origin = "" }},
	"unknown origin":    {recordStates, func(r *Record) { r.Origin = "last" }},
	"never claimed":     {recordStates, func(r *Record) { r.Claimed = time.Time{} }},
	"no lease":          {[]State{Running}, func(r *Record) { r.LeaseEnd = time.Time{} }},
	"a lease":           {recordStates[1:], func(r *Record) { r.LeaseEnd = r.Claimed.Add(1) }},
	"no doubt":          {[]State{InDoubt}, func(r *Record) { r.Doubted = time.Time{} }},
	"a doubt":           {[]State{Running, Pending, Succeeded, Failed, Tombstone}, func(r *Record) { r.Doubted = r.Claimed }},
	"no end":            {recordStates[2:], func(r *Record) { r.Settled = time.Time{} }},
	"an end":            {recordStates[:2], func(r *Record) { r.Settled = r.Claimed }},
	"marked":            {[]State{Running, Pending, Succeeded, Failed, Tombstone}, func(r *Record) { r.Marked = true }},
	"an outcome":        {[]State{Running, Pending, Tombstone}, func(r *Record) { r.Outcome.Data = []byte("x") }},
	"why it is missing": {[]State{Running, InDoubt, Pending, Tombstone}, func(r *Record) { r.Outcome.Missing = "x" }},
	"another outcome": {[]State{Succeeded, Failed}, func(r *Record) {
		r.Outcome.State = map[State]State{Succeeded: Failed, Failed: Succeeded}[r.State]
	}},
	"no outcome": {[]State{Succeeded, Failed}, func(r *Record) { r.Outcome = Outcome{} }},
	"an empty reason of doubt": {[]State{InDoubt}, func(r *Record) {
		r.Outcome = Outcome{State: InDoubt, Data: []byte{}, Context: "json"}
	}},
	"marked, with a reason of doubt": {[]State{InDoubt}, func(r *Record) {
		r.Marked, r.Outcome = true, Outcome{State: InDoubt, Data: []byte("x"), Context: "json"}
	}},
	"kept": {[]State{InDoubt, Succeeded, Failed, Tombstone}, func(r *Record) { r.Kept = &Outcome{State: Succeeded} }},
	"kept, but no success": {[]State{Running, Pending}, func(r *Record) {
		r.Kept = &Outcome{State: Failed}
	}},
	"kept, too large": {[]State{Running}, func(r *Record) {
		r.Kept = &Outcome{State: Succeeded, Data: make([]byte, MaxData+1)}
	}},
	"too large":          {[]State{Succeeded, Failed}, func(r *Record) { r.Outcome.Data = make([]byte, MaxData+1) }},
	"a long context":     {[]State{Succeeded, Failed}, func(r *Record) { r.Outcome.Context = strings.Repeat("x", maxText+1) }},
	"a long reason":      {[]State{Succeeded, Failed}, func(r *Record) { r.Outcome.Missing = strings.Repeat("x", maxText+1) }},
	"a long key":         {recordStates, func(r *Record) { r.Key = strings.Repeat("x", maxText+1) }},
	"a long owner":       {recordStates, func(r *Record) { r.Owner = strings.Repeat("x", maxName+1) }},
	"a long author":      {recordStates, func(r *Record) { r.By = strings.Repeat("x", maxText+1) }},
	"long info":          {recordStates, func(r *Record) { r.Info.Match = strings.Repeat("x", maxTexts+1) }},
	"many events":        {recordStates, func(r *Record) { r.History = slicesRepeat(Turn{What: TurnReleased}, maxHistory+1) }},
	"long events":        {recordStates, func(r *Record) { r.History = []Turn{{What: "x", Why: strings.Repeat("x", maxTexts)}} }},
	"an event of none":   {recordStates, func(r *Record) { r.History = []Turn{{By: "operator"}} }},
	"outcome of a doubt": {[]State{Succeeded, Failed}, func(r *Record) { r.Outcome.State = InDoubt }},
}

func slicesRepeat(e Turn, n int) []Turn {
	list := make([]Turn, n)
	for i := range list {
		list[i] = e
	}
	return list
}

func TestRecord_ValidateRefusesContradictions(t *testing.T) {
	t.Parallel()
	for name, c := range contradictions {
		for _, state := range c.states {
			r := someRecord(state)
			require.NoError(t, r.Validate(), state)
			c.change(&r)
			require.ErrorIs(t, r.Validate(), ErrCorrupt, "%s: %s", state, name)
		}
	}
}

// Every record that the protocol writes is let in.
func TestRecord_ValidateAcceptsWhatIsWritten(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		r      Record
		change func(*Record)
	}{
		{someRecord(Running), func(r *Record) { r.Kept = &Outcome{State: Succeeded, Missing: "too large"} }},
		{someRecord(Pending), func(r *Record) { r.Kept = &Outcome{State: Succeeded, Data: make([]byte, MaxData)} }},
		{someRecord(InDoubt), func(r *Record) { r.Marked = true }},
		{someRecord(InDoubt), func(r *Record) { r.Outcome = Outcome{State: InDoubt, Data: []byte("x"), Context: "json"} }},
		{someRecord(Succeeded), func(r *Record) { r.By, r.Outcome.Data = ByReconcile, make([]byte, MaxData) }},
		{someRecord(Tombstone), func(r *Record) { r.By, r.History = ByOperator, slicesRepeat(Turn{What: TurnReleased}, maxHistory) }},
	} {
		c.change(&c.r)
		require.NoError(t, c.r.Validate(), "%+v", c.r.State)
	}
}

// The clock of a store may be set back between a grant and its renewal.
func TestRecord_ValidateAcceptsARenewalByAnEarlierClock(t *testing.T) {
	t.Parallel()
	b, now := testBid("k", "a"), time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var r Record
	_, err := r.acquire(b, now, false)
	require.NoError(t, err)
	_, err = r.acquire(testBid("k", "b"), now, true)
	require.NoError(t, err)
	require.True(t, r.Marked)
	_, err = r.renew(b, now.Add(-time.Hour))
	require.NoError(t, err)
	require.True(t, r.Owned("a"))
	require.NoError(t, r.Validate())
}

// What is over a bound is refused by every store before it is written, and what is
// at the bound is kept.
func TestStore_RefusesWhatIsTooLarge(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxText+1)
	bids := map[string]func(*Bid){
		"key":   func(b *Bid) { b.Key = long },
		"nonce": func(b *Bid) { b.Owner = long[:maxName+1] },
	}
	holder := reflect.TypeFor[Holder]()
	for _, of := range []reflect.Type{reflect.TypeFor[Info](), holder} {
		for i := range of.NumField() {
			if of.Field(i).Type.Kind() != reflect.String {
				continue
			}
			bids[of.Field(i).Name] = func(b *Bid) {
				v := reflect.ValueOf(&b.Info).Elem()
				if of == holder {
					v = v.FieldByName("Holder")
				}
				v.Field(i).SetString(long)
			}
		}
	}
	ctx := t.Context()
	for _, s := range []Store{NewMemory(MemoryOptions{}), newFile(t, t.TempDir())} {
		requireRefused(ctx, t, s, bids)
	}
}

func requireRefused(ctx context.Context, t *testing.T, s Store, bids map[string]func(*Bid)) {
	t.Helper()
	long := strings.Repeat("x", maxText+1)
	for name, change := range bids {
		b := testBid("k", "a")
		change(&b)
		for verb, call := range map[string]func() (Record, error){
			"Acquire":  func() (Record, error) { return s.Acquire(ctx, b) },
			"Renew":    func() (Record, error) { return s.Renew(ctx, b) },
			"Settle":   func() (Record, error) { return s.Settle(ctx, b, testSuccess) },
			"Release":  func() (Record, error) { return s.Release(ctx, b) },
			"Takeover": func() (Record, error) { return s.Takeover(ctx, b, Record{}) },
		} {
			_, err := call()
			require.ErrorIs(t, err, ErrInvalid, "%s: %s", verb, name)
		}
	}
	for name, o := range map[string]Outcome{
		"data":    {State: Succeeded, Data: make([]byte, MaxData+1)},
		"context": {State: Failed, Context: long},
		"missing": {State: InDoubt, Missing: long},
	} {
		_, err := s.Settle(ctx, testBid("k", "a"), o)
		require.ErrorIs(t, err, ErrInvalid, name)
		_, err = s.Resolve(ctx, "k", Record{}, Resolution{ID: "1", To: Succeeded, By: ByOperator, TTL: time.Hour, Outcome: o})
		require.ErrorIs(t, err, ErrInvalid, name)
	}
	for name, r := range map[string]Resolution{
		"nonce": {ID: long[:maxName+1], By: "x"}, "author": {ID: "x", By: long[:maxName+1]}, "why": {ID: "x", By: "x", Why: long[:maxWhy+1]},
	} {
		r.To, r.TTL = Failed, time.Hour
		_, err := s.Resolve(ctx, "k", Record{}, r)
		require.ErrorIs(t, err, ErrInvalid, name)
	}
	r, err := s.Load(ctx, "k")
	require.NoError(t, err)
	require.Equal(t, Absent, r.State)
	largest := Outcome{State: Succeeded, Data: make([]byte, MaxData), Context: long[1:], Missing: long[1:]}
	_, err = s.Settle(ctx, testBid("k", "a"), largest)
	require.NoError(t, err)
	r, err = s.Load(ctx, "k")
	require.NoError(t, err)
	require.Len(t, r.Outcome.Data, MaxData)
}

func TestFile_RefusesALargeFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := newFile(t, dir)
	_, err := f.Acquire(t.Context(), testBid("k", "a"))
	require.NoError(t, err)
	require.NoError(t, os.Truncate(segmentsIn(t, dir)[0], 1<<40))
	_, err = f.Acquire(t.Context(), testBid("k", "b"))
	require.ErrorIs(t, err, ErrCorrupt)
	require.ErrorContains(t, err, segmentsIn(t, dir)[0])
}

// A history at its longest, of events at theirs, is no more than what is read back.
func TestRecord_BoundsFitIntoEachOther(t *testing.T) {
	t.Parallel()
	worst := 6*(2*maxName+maxName+maxWhy) + 200 // escaped, with the words around it
	require.LessOrEqual(t, 2*(MaxData/3+1)*4+maxHistory*worst+6*(len(Info{}.texts())+6)*maxText, maxFile)
}

func TestCheckShape_RefusesWhatIsCostly(t *testing.T) { //nolint:paralleltest // it measures what is allocated
	for name, text := range map[string]string{
		"deep":        strings.Repeat(`[`, 1<<20),
		"deep values": strings.Repeat(`{"a":`, 1<<20),
		"long list":   `{"history":[` + strings.Repeat(`{},`, 100_000) + `{}]}`,
		"many keys":   `{` + strings.Repeat(`"a":1,`, 100_000) + `"b":1}`,
		"long text":   `{"outcome":{"data":"` + strings.Repeat("A", 64<<20) + `"}}`,
	} {
		data := []byte(text)
		requireCheap(t, 0, func() { require.ErrorIs(t, CheckShape(data), ErrCorrupt, name) })
		requireCheap(t, 0, func() {
			_, err := decodeRecord(data)
			require.ErrorIs(t, err, ErrCorrupt, name)
		})
	}
	for _, text := range []string{``, `"`, `"\`, `"\"`, `{"a":"[[[[\\"}`, `{"a":"` + strings.Repeat(`[`, 100) + `"}`, fmt.Sprintf("%q", strings.Repeat(`"`, 1000))} {
		require.NoError(t, CheckShape([]byte(text)), text)
	}
}
