package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The search walks every interleaving of a few claims of one key, as a guard
// makes them, and checks what must hold after each call. A lost reply is a call
// whose claim does not learn the answer and repeats it, or gives up; a crash is
// a claim that does nothing more, a slow owner one that goes on after its lease.

// rules say what may happen in a search.
type rules struct {
	claims    int
	rerun     bool // anybody takes over
	reconcile bool // taken over as Clean, by whoever finds that nothing happened nor can happen
	operator  int  // how many resolutions
	forget    int  // how often the store loses the record
	states    int  // the least number of states that the search must see
}

type phase byte

const (
	idle   phase = iota
	unsure       // a grant may have been answered, and the reply was lost
	active       // knows its grant; its body may be running
	ended        // settled, released, or gave up
	dead
)

// actor is one claim, with what the test knows of it and no store does.
type actor struct {
	phase   phase
	fence   uint64
	seen    *Record // what it may take over
	asked   bool    // it found that seen did not happen
	began   bool
	effect  bool    // the act has happened
	heard   [4]bool // which of outcomesOf the store accepted
	release *Bid    // a release that the store accepted
	over    bool    // the store accepted its end, or somebody superseded it
}

type world struct {
	rules   *rules
	record  Record
	lapsed  bool // the running claim's lease is over
	clock   int
	fence   uint64 // the highest of all grants
	success bool   // a success was accepted
	decided int    // resolutions, named r0, r1, …
	actors  [3]actor
	broken  string // the invariant that was violated
}

var outcomesOf = [4]State{Succeeded, Failed, InDoubt, Pending}

func nonce(i int) string { return string(rune('a' + i)) }

func (w *world) bid(i int) Bid {
	a := w.actors[i]
	return Bid{
		Key: "k", Owner: nonce(i), Fence: a.fence, Lease: time.Second, TTL: time.Hour,
		Began: a.began, Clean: a.asked,
	}
}

func (w *world) now() time.Time { return time.Unix(int64(1_000_000+w.clock), 0) }

// claims are the actors that take part.
func (w *world) claims() []actor { return w.actors[:w.rules.claims] }

func (w *world) violated(format string, args ...any) {
	if w.broken == "" {
		w.broken = fmt.Sprintf(format, args...)
	}
}

// call applies a verb, twice, and checks what holds of every call.
func (w *world) call(name string, verb func(*Record) (bool, error)) error {
	before := w.record
	_, err := verb(&w.record)
	r := &w.record
	// Copies share the history; the protocol only appends to it.
	r.History = slices.Clip(r.History)
	again := *r
	_, errAgain := verb(&again)
	same := equal(before, *r)
	switch {
	case err != nil && !errors.Is(err, ErrConflict) && !same:
		w.violated("%s was refused with %v and changed the record", name, err)
	case !same && r.Revision <= before.Revision:
		w.violated("%s wrote and left the revision at %d", name, r.Revision)
	case !errors.Is(err, errAgain):
		w.violated("%s answered %v, and repeated %v", name, err, errAgain)
	case name != "renew" && !equal(*r, again):
		w.violated("%s, repeated, changed the record from %+v to %+v", name, *r, again)
	case before.State != Absent && r.State == Absent:
		w.violated("%s made the record absent", name)
	}
	if before.Owner != "" && r.Owner != before.Owner && r.State == Running {
		w.actors[before.Owner[0]-'a'].over = true
	}
	if r.State == Running && (r.Owner != before.Owner || before.State != Running && name != "renew") {
		if r.Fence <= w.fence {
			w.violated("%s granted fence %d after %d", name, r.Fence, w.fence)
		}
		if w.actors[r.Owner[0]-'a'].over {
			w.violated("%s granted the key to a claim that had ended", name)
		}
		w.fence, w.lapsed = r.Fence, false
	}
	return err
}

func (w *world) acquire(i int, lost bool) {
	a := &w.actors[i]
	a.seen, a.asked = nil, false
	err := w.call("acquire", func(r *Record) (bool, error) { return r.acquire(w.bid(i), w.now(), w.lapsed) })
	switch r := w.record; {
	case a.phase >= ended:
	case err != nil:
		a.phase = ended
	case lost:
		a.phase = unsure
	case r.Owned(nonce(i)):
		a.phase, a.fence = active, r.Fence
	case a.phase == unsure:
		a.phase = ended
	case r.State == InDoubt || r.State == Pending:
		a.seen = &r
	}
}

func (w *world) takeover(i int, lost bool) {
	a := &w.actors[i]
	b, from := w.bid(i), *a.seen
	err := w.call("takeover", func(r *Record) (bool, error) { return r.takeover(b, from, w.now()) })
	switch {
	case err != nil && a.phase == unsure:
		a.phase = ended
	case lost:
		a.phase = unsure
	case err != nil:
		a.seen, a.asked = nil, false
	default:
		a.phase, a.fence = active, w.record.Fence
	}
}

func (w *world) settle(i int, state State) {
	a, b := &w.actors[i], w.bid(i)
	err := w.call("settle", func(r *Record) (bool, error) {
		return r.settle(b, Outcome{State: state, Context: nonce(i)}, w.now())
	})
	if r := w.record; state == Succeeded && err == nil && !a.heard[0] && (r.State != Succeeded || r.Owner != b.Owner || r.Outcome.Context != b.Owner) {
		w.violated("a success was taken for the repetition of one, and left no trace")
	}
	if err == nil || errors.Is(err, ErrConflict) {
		a.heard[slices.Index(outcomesOf[:], state)] = true
		a.over = true
		w.success = w.success || state == Succeeded
	}
	if err != nil || state == Succeeded || state == Failed {
		a.phase = ended
	}
}

func (w *world) giveBack(i int) {
	a, b := &w.actors[i], w.bid(i)
	before := w.record
	err := w.call("release", func(r *Record) (bool, error) { return r.release(b, w.now()) })
	if before.Origin == Taken && before.State != Absent && before.State != Tombstone && w.record.State == Tombstone {
		w.violated("a release after a takeover left a tombstone")
	}
	a.phase = ended
	if err == nil {
		a.release, a.over = &b, true
	}
}

func (w *world) resolve(to State, erase bool) {
	from := w.record
	err := w.call("resolve", func(r *Record) (bool, error) {
		return r.resolve(Resolution{ID: fmt.Sprint("r", w.decided), To: to, By: ByOperator, TTL: time.Hour, Force: true, Erase: erase}, from, w.now())
	})
	if err == nil {
		w.decided++
		w.actors[from.Owner[0]-'a'].over = true
	}
}

func (w *world) forget() {
	w.record, w.lapsed, w.success = Record{}, false, false
	w.clock++
	w.decided = 0
	for i := range w.actors {
		a := &w.actors[i]
		a.heard, a.release, a.over = [4]bool{}, nil, false
	}
}

// check looks for what must hold in every state, and repeats each call that was
// ever accepted.
func (w *world) check() {
	r, effects := w.record, 0
	for _, a := range w.claims() {
		if a.effect {
			effects++
		}
	}
	resolved := slices.ContainsFunc(r.History, func(e Turn) bool { return e.What == TurnResolved || e.What == TurnErased })
	conflict := slices.ContainsFunc(r.History, func(e Turn) bool { return e.What == TurnConflict })
	if effects > 1 && !w.rules.rerun && w.rules.operator == 0 && w.rules.forget == 0 {
		w.violated("the act happened twice")
	}
	if r.State == Succeeded && effects == 0 && !resolved {
		w.violated("the record says succeeded, and nothing happened")
	}
	if w.success && r.State != Succeeded && r.Kept == nil && !resolved && !(r.State == Failed && conflict) {
		w.violated("an accepted success is lost")
	}
	for i, a := range w.claims() {
		for j, state := range outcomesOf {
			if !a.heard[j] {
				continue
			}
			w.repeat("settle", func(r *Record) (bool, error) {
				return r.settle(w.bid(i), Outcome{State: state, Context: nonce(i)}, w.now())
			})
		}
		if a.release != nil {
			w.repeat("release", func(r *Record) (bool, error) { return r.release(*a.release, w.now()) })
		}
		if a.over && a.seen != nil {
			w.repeat("takeover", func(r *Record) (bool, error) { return r.takeover(w.bid(i), *a.seen, w.now()) })
		}
	}
	for i := range w.decided {
		w.repeat("resolve", func(r *Record) (bool, error) {
			return r.resolve(Resolution{ID: fmt.Sprint("r", i), To: Tombstone, By: ByOperator, TTL: time.Hour, Force: true}, Record{}, w.now())
		})
	}
}

func (w *world) repeat(name string, verb func(*Record) (bool, error)) {
	again := w.record
	if _, err := verb(&again); !equal(w.record, again) {
		w.violated("a late repetition of %s (%v) changed the record from %+v to %+v", name, err, w.record, again)
	}
}

// moves yields every next step.
func (w *world) moves(yield func(name string, step func(*world))) {
	for i, a := range w.claims() {
		move := func(name string, step func(w *world)) { yield(nonce(i)+" "+name, step) }
		if a.phase != ended && a.phase != dead && a.phase != idle {
			move("crashes", func(w *world) { w.actors[i].phase = dead })
		}
		switch a.phase {
		case idle:
			move("acquires", func(w *world) { w.acquire(i, false) })
			move("acquires, reply lost", func(w *world) { w.acquire(i, true) })
			w.takeovers(i, move)
		case unsure:
			if a.seen == nil {
				move("repeats its acquire", func(w *world) { w.acquire(i, false) })
			} else {
				move("repeats its takeover", func(w *world) { w.takeover(i, false) })
			}
			move("gives up", func(w *world) { w.giveBack(i) })
		case active:
			w.runs(i, move)
		default:
			move("is heard late: acquire", func(w *world) { w.acquire(i, false) })
		}
		if a.phase == idle && a.seen == nil {
			break // claims that did nothing yet are alike
		}
	}
	if w.record.State == Running && !w.lapsed {
		yield("the lease ends", func(w *world) { w.lapsed = true })
	}
	if w.decided < w.rules.operator {
		for _, to := range []State{Succeeded, Failed, Tombstone} {
			yield("an operator says "+string(to), func(w *world) { w.resolve(to, false) })
		}
		yield("an operator erases", func(w *world) { w.resolve(Tombstone, true) })
	}
	if w.clock < w.rules.forget && w.record.State != Absent {
		yield("the store forgets", (*world).forget)
	}
}

func (w *world) takeovers(i int, move func(string, func(*world))) {
	a := w.actors[i]
	if a.seen == nil {
		return
	}
	live := slices.ContainsFunc(w.claims(), func(a actor) bool { return a.effect || a.phase == active })
	if w.rules.reconcile && !a.asked && !live {
		move("asks: not done", func(w *world) { w.actors[i].asked = true })
	}
	if w.rules.rerun || a.asked {
		move("takes over", func(w *world) { w.takeover(i, false) })
		move("takes over, reply lost", func(w *world) { w.takeover(i, true) })
	}
}

func (w *world) runs(i int, move func(string, func(*world))) {
	a := w.actors[i]
	if !a.began {
		move("begins", func(w *world) { w.actors[i].began = true })
	}
	if a.began && !a.effect {
		move("takes effect", func(w *world) { w.actors[i].effect = true })
	}
	if !a.effect {
		move("releases", func(w *world) { w.giveBack(i) })
	}
	move("renews", func(w *world) {
		if w.call("renew", func(r *Record) (bool, error) { return r.renew(w.bid(i), w.now()) }) == nil {
			w.lapsed = false
		}
	})
	for j, state := range outcomesOf {
		possible := a.began && !a.heard[j]
		switch state {
		case Succeeded:
			possible = possible && a.effect
		case Failed:
			possible = possible && !a.effect
		case Pending:
			possible = possible && !a.heard[slices.Index(outcomesOf[:], InDoubt)]
		}
		if possible {
			move("settles "+string(state), func(w *world) { w.settle(i, state) })
		}
	}
}

// key is different for each state. Fences and revisions count only as the protocol
// compares them: whether they are still the record's.
func (w *world) key() string {
	r := w.record
	k := make([]byte, 0, 256)
	text := func(parts ...string) {
		for _, part := range parts {
			k = append(append(k, part...), ',')
		}
	}
	flags := func(flags ...bool) {
		for _, flag := range flags {
			if flag {
				k = append(k, '1')
			} else {
				k = append(k, '0')
			}
		}
	}
	text(string(r.State), r.Owner, string(r.Origin), r.By, r.Outcome.Context)
	flags(r.Marked, r.Forgotten, w.lapsed, w.success, r.Kept != nil)
	k = append(k, byte(w.clock), byte(w.decided))
	if r.Kept != nil {
		text(r.Kept.Context)
	}
	for _, e := range r.History {
		text(e.What, string(e.From), e.FromBy, e.Owner)
	}
	for _, a := range w.claims() {
		fresh := a.seen != nil && a.seen.State == r.State && a.seen.Revision == r.Revision
		k = append(k, '|', byte(a.phase))
		flags(a.fence != 0, a.fence == r.Fence, a.seen != nil, fresh, a.asked, a.began, a.effect, a.release != nil, a.over)
		flags(a.heard[:]...)
	}
	return string(k)
}

func equal(a, b Record) bool {
	return a.State == b.State && a.Owner == b.Owner && a.Fence == b.Fence && a.Revision == b.Revision &&
		a.Marked == b.Marked && a.Origin == b.Origin && a.Forgotten == b.Forgotten && a.By == b.By &&
		a.Outcome.State == b.Outcome.State && a.Outcome.Context == b.Outcome.Context &&
		(a.Kept == nil) == (b.Kept == nil) && (a.Kept == nil || a.Kept.Context == b.Kept.Context) &&
		slices.Equal(a.History, b.History)
}

func search(t *testing.T, rules *rules) {
	t.Helper()
	type node struct {
		world  *world
		parent int
		name   string
	}
	nodes := []node{{world: &world{rules: rules}, parent: -1}}
	seen := map[string]bool{nodes[0].world.key(): true}
	states, calls := map[State]int{}, 0
	for at := 0; at < len(nodes); at++ {
		w := nodes[at].world
		states[w.record.State]++
		w.moves(func(name string, step func(*world)) {
			copied := *w
			next := &copied
			step(next)
			calls++
			key := next.key()
			if next.broken == "" && seen[key] {
				return
			}
			seen[key] = true
			next.check()
			nodes = append(nodes, node{next, at, name})
			if next.broken == "" {
				return
			}
			var trace []string
			for i := len(nodes) - 1; i > 0; i = nodes[i].parent {
				trace = append(trace, nodes[i].name)
			}
			slices.Reverse(trace)
			require.FailNow(t, next.broken, "%s", strings.Join(trace, "\n"))
		})
		nodes[at].world = nil
	}
	t.Logf("%d states, %d steps; by the record's state: %v", len(nodes), calls, states)
	require.GreaterOrEqual(t, len(nodes), rules.states, "the search sees less than it did")
	for _, state := range []State{Running, InDoubt, Pending, Succeeded, Failed, Tombstone} {
		require.NotZero(t, states[state], "the search never sees %q", state)
	}
}

func TestProtocol_Search(t *testing.T) {
	t.Parallel()
	for name, rules := range map[string]rules{
		"hold":            {claims: 3, states: 10_000},
		"reconcile":       {claims: 3, reconcile: true, states: 80_000},
		"rerun":           {claims: 2, rerun: true, states: 4_000},
		"rerun, operator": {claims: 2, rerun: true, operator: 1, states: 40_000},
		"hold, corrected": {claims: 1, operator: 3, states: 3_500},
		"rerun, forgets":  {claims: 2, rerun: true, forget: 1, states: 15_000},
		"hold, operator, forgets": {
			claims: 2, operator: 1, forget: 1, states: 60_000,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			search(t, &rules)
		})
	}
}
