package engine

import (
	"container/list"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// repeats knows what this process has reported, so that what goes on for hours does
// not fill the logs: it is reported when it begins, after an hour, and then each day.
type repeats struct {
	mu     sync.Mutex
	all    map[string]*list.Element // of reported
	recent list.List                // the last one asked about in front
}

// reported is something that was.
type reported struct {
	what  string
	asked time.Time // when it came up last
	due   time.Time // when it is to be reported again
}

const (
	// maxReported bounds what is remembered: what came up last.
	maxReported = 10_000
	// soonAgain is after what time it is reported again; what did not come up for so
	// long begins anew.
	soonAgain  = time.Hour
	laterAgain = 24 * time.Hour
)

// repeat reports whether what has been reported, and need not be again.
func (r *repeats) repeat(what string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	e, known := r.all[what]
	if !known {
		if r.all == nil {
			r.all = map[string]*list.Element{}
		}
		r.all[what] = r.recent.PushFront(&reported{what, now, now.Add(soonAgain)})
		if len(r.all) > maxReported {
			oldest, _ := r.recent.Remove(r.recent.Back()).(*reported)
			delete(r.all, oldest.what)
		}
		return false
	}
	r.recent.MoveToFront(e)
	x, _ := e.Value.(*reported)
	quiet := now.Sub(x.asked)
	x.asked = now
	switch {
	case quiet > soonAgain:
		x.due = now.Add(soonAgain)
	case now.Before(x.due):
		return true
	default:
		x.due = now.Add(laterAgain)
	}
	return false
}

// isRepeat reports whether a notice has been reported. One about something
// that happened is reported each time.
func (r *repeats) isRepeat(e observe.Event) bool {
	switch e.Notice {
	case observe.OneAttempt, observe.NoHeader, observe.PolicyDefeated: // about the activity type
		return r.repeat(string(e.Notice) + "/" + e.Activity)
	case observe.OtherRun, observe.SameRun, observe.Observed: // about the key
		return r.repeat(string(e.Notice) + "/" + e.Activity + "/" + e.Digest + "/" + string(e.Reason))
	case observe.StoreUnsafe: // which each check finds again
		return r.repeat(string(e.Notice) + "/" + e.Err.Error())
	}
	return false
}

// isRepeatedRefusal reports whether a refusal of that kind has been reported for the
// key; of a doubt, for this one.
func (r *repeats) isRepeatedRefusal(kind once.Reason, settling bool, activity, digest string, record store.Record) bool {
	what := []string{string(kind), strconv.FormatBool(settling), activity, digest}
	if kind == once.InDoubt {
		what = append(what, strconv.FormatUint(record.Fence, 10), record.Doubted.String())
	}
	return r.repeat(strings.Join(what, "/"))
}
