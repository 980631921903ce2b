package store

import (
	"cmp"
	"encoding/hex"
	"iter"
	"math"
	"slices"
	"strings"
	"time"
)

// This file is what a handle knows of the log by heart: where the last line of each key
// is. It has no texts: about 60 bytes for a key.

// lastLine is where the last line of a key is, and what it says.
type lastLine struct {
	at      spot
	size    uint32
	expires uint32
	state   uint8 // its place in lineStates; 0: the line is damaged, or of a newer program
}

// end is up to where the log must be durable for the line to be.
func (e lastLine) end() durable {
	return durable{segment: e.at.segment, size: int64(e.at.at) + int64(e.size)}
}

// index has the last line of each key.
type index struct {
	entries map[id]lastLine
	open    map[id]struct{} // those that are running, in doubt or pending
	// unknown are damaged lines of which nobody knows whose they are: whatever was
	// written before one of them may have changed.
	unknown []spot
	bytes   int64           // of all last lines
	ending  map[int64]int64 // of those that expire, by the hour
}

func newIndex() index {
	return index{entries: map[id]lastLine{}, open: map[id]struct{}{}, ending: map[int64]int64{}}
}

// put makes e the last line of a key, and returns the one before.
func (x *index) put(k id, e lastLine) (before lastLine, found bool) {
	before, found = x.remove(k)
	x.entries[k] = e
	x.bytes += int64(e.size)
	if e.expires != 0 {
		x.ending[int64(e.expires)/3600] += int64(e.size)
	}
	if lineStates[e.state].IsOpen() {
		x.open[k] = struct{}{}
	}
	return before, found
}

func (x *index) remove(k id) (before lastLine, found bool) {
	before, found = x.entries[k]
	if !found {
		return before, false
	}
	delete(x.entries, k)
	delete(x.open, k)
	x.bytes -= int64(before.size)
	if hour := int64(before.expires) / 3600; before.expires != 0 {
		if x.ending[hour] -= int64(before.size); x.ending[hour] <= 0 {
			delete(x.ending, hour)
		}
	}
	return before, true
}

// find returns the last line of a key. It is unsure where a damaged line may have
// changed that.
func (x *index) find(k id) (e lastLine, found, unsure bool) {
	e, found = x.entries[k]
	for _, damaged := range x.unknown {
		unsure = unsure || !found || e.at.before(damaged)
	}
	return e, found, unsure
}

// remembered is how many bytes the lines have that have not expired, by the hour.
func (x *index) remembered(now time.Time) int64 {
	n := x.bytes
	for hour, size := range x.ending {
		if hour < now.Unix()/3600 {
			n -= size
		}
	}
	return n
}

// matching returns the keys whose digests begin so, and that may be in that state
// if one is given, in the order of their lines.
func (x *index) matching(prefix string, only State) []id {
	type found struct {
		k  id
		at spot
	}
	var all []found
	for k, e := range x.candidates(prefix, only) {
		if (only == Absent || e.state == 0 || lineStates[e.state] == only) && strings.HasPrefix(hex.EncodeToString(k[:]), prefix[:min(len(prefix), 2*len(k))]) {
			all = append(all, found{k, e.at})
		}
	}
	slices.SortFunc(all, func(a, b found) int {
		return cmp.Or(cmp.Compare(a.at.segment, b.at.segment), cmp.Compare(a.at.at, b.at.at))
	})
	ids := make([]id, len(all))
	for i := range all {
		ids[i] = all[i].k
	}
	return ids
}

// candidates are entries among which those that match are.
func (x *index) candidates(prefix string, only State) iter.Seq2[id, lastLine] {
	return func(yield func(id, lastLine) bool) {
		var whole id
		switch {
		case len(prefix) >= 2*len(whole):
			if _, err := hex.Decode(whole[:], []byte(prefix[:2*len(whole)])); err != nil {
				return
			}
			if e, found := x.entries[whole]; found {
				yield(whole, e)
			}
		case only.IsOpen():
			for k := range x.open {
				if !yield(k, x.entries[k]) {
					return
				}
			}
		default:
			for k, e := range x.entries {
				if !yield(k, e) {
					return
				}
			}
		}
	}
}

// over reports whether a line is of a record that has expired at that time.
func over(expires uint32, now time.Time) bool {
	return expires != 0 && expires != math.MaxUint32 && now.Unix() >= int64(expires)
}
