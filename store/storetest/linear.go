package storetest

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/atmostonce/atmostonce/store"
)

const (
	// So few calls that no record has to drop an event.
	historyKeys    = 2
	historyClients = 4
	historyRounds  = 3
	roundCalls     = 9 // of one client
	// together is how many histories share their processes.
	together = 5
	// storeHistories bounds how many histories one store has to hold.
	storeHistories = 50
	// checkLimit bounds the search for an order of one history.
	checkLimit = time.Minute
)

// Histories checks n histories of about a hundred concurrent calls each: for
// each key there must be one order of the calls that explains all answers, in
// which every call stands between its beginning and its end. Some of the calls
// are lost on the way, or their answers are, or they arrive late, and owners
// die. [Run] does the same with few histories.
//
// newHarness is called once for every 50 histories. Calls may fail, for instance
// where the network does, but not most of them.
func Histories(t *testing.T, newHarness func(t *testing.T) Harness, n int) {
	t.Helper()
	var sum tally
	t.Run("histories", func(t *testing.T) {
		for first := 0; first < n; first += storeHistories {
			t.Run(fmt.Sprint(first), func(t *testing.T) {
				t.Parallel()
				histories(min(storeHistories, n-first), &sum).checkAround(t, newHarness(t))
			})
		}
	})
	t.Logf("%s: %d histories of %d calls checked; %d calls were not answered, %d of these because the test lost them",
		t.Name(), sum.histories.Load(), sum.calls.Load(), sum.unanswered.Load(), sum.lost.Load())
}

// tally counts what was checked.
type tally struct {
	histories, calls, unanswered, lost atomic.Int64
}

var linearCases = []testCase{histories(10, new(tally))}

func histories(n int, sum *tally) testCase {
	return testCase{
		"every answer is explained by one order",
		"However calls overlap: each takes effect at one moment between its beginning and its end. One that was not answered takes effect at any later moment, or never.",
		func(k *kit) {
			handles := make([]store.Store, historyClients)
			for i := range handles {
				handles[i] = k.open()
			}
			for first := 0; first < n; first += together {
				var group []*history
				for i := first; i < min(n, first+together); i++ {
					group = append(group, newHistory(k, sum, i, handles))
				}
				runTogether(k, group)
				for _, h := range group {
					h.check()
				}
			}
		},
	}
}

// A history is what clients that called at once were answered.
type history struct {
	*kit
	sum     *tally
	keys    []string
	clients []*client
	clock   atomic.Int64

	mu    sync.Mutex
	calls map[string][]porcupine.Operation // by key
	cause error                            // of the last silence
}

func newHistory(k *kit, sum *tally, n int, handles []store.Store) *history {
	h := &history{kit: k, sum: sum, calls: map[string][]porcupine.Operation{}}
	for i := range historyKeys {
		h.keys = append(h.keys, fmt.Sprintf("%s/%d-%d", theKey, n, i))
	}
	for i, s := range handles {
		h.clients = append(h.clients, newClient(h, i, s))
	}
	return h
}

// runTogether makes the calls of histories that share their processes. One of these may
// die at the end of a round.
func runTogether(k *kit, group []*history) {
	k.Helper()
	for range historyRounds {
		var doomed store.Store
		dies := rand.IntN(historyClients)
		if rand.IntN(2) == 0 {
			doomed = k.open()
		}
		var round sync.WaitGroup
		for _, h := range group {
			h.clients[dies].doomed = doomed
			for _, c := range h.clients {
				round.Go(func() {
					for range roundCalls {
						c.call(c.next())
					}
				})
			}
		}
		round.Wait()
		if doomed == nil {
			continue
		}
		for _, h := range group {
			h.clients[dies].move()
		}
		k.h.Die(k.TB, doomed, mortalLease)
	}
	for _, h := range group {
		for _, c := range h.clients {
			c.arrive()
		}
		for _, key := range h.keys {
			h.clients[0].send(call{verb: "Load", key: key})
		}
	}
}

// add notes a call that began at the moment began, and its answer.
func (h *history) add(client int, c call, began int64, a answer) {
	op := porcupine.Operation{ClientId: client, Input: c, Call: began, Output: a, Return: math.MaxInt64}
	if !a.silent {
		op.Return = h.clock.Add(1)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls[c.key] = append(h.calls[c.key], op)
}

// failed notes why a call was not answered.
func (h *history) failed(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cause = err
}

func (h *history) check() {
	h.Helper()
	calls, silent := 0, 0
	for _, key := range h.keys {
		for _, op := range h.calls[key] {
			calls++
			if op.Output.(answer).silent {
				silent++
			}
		}
		switch porcupine.CheckOperationsTimeout(h.model(), h.calls[key], checkLimit) {
		case porcupine.Illegal:
			h.explain(h.calls[key])
		case porcupine.Unknown:
			h.fail("no order of %d calls was found within %v", len(h.calls[key]), checkLimit)
		}
	}
	h.that(silent < calls/2, "%d of %d calls were not answered: %v", silent, calls, h.cause)
	h.sum.histories.Add(1)
	h.sum.calls.Add(int64(calls))
	h.sum.unanswered.Add(int64(silent))
}

// model is that of the store.
func (h *history) model() porcupine.Model {
	if h.h.LeaseByLock {
		return lockedModel
	}
	return model
}

// explain fails with the shortest beginning of the calls that no order explains.
func (h *history) explain(calls []porcupine.Operation) {
	h.Helper()
	model := h.model()
	slices.SortFunc(calls, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	for end := range h.clock.Load() + 1 {
		begun := until(end, calls)
		if porcupine.CheckOperations(model, begun) {
			continue
		}
		begun = relevant(model, begun)
		_, info := porcupine.CheckOperationsVerbose(model, begun, checkLimit)
		drawing := filepath.Join(h.ArtifactDir(), "history.html")
		if err := porcupine.VisualizePath(model, info, drawing); err != nil {
			drawing = err.Error()
		}
		h.fail("the answer at %d is explained by no order of the calls about %s:\n%s(drawn in %s; go test -artifacts keeps it)",
			end, calls[0].Input.(call).key, listing(begun), drawing)
	}
}

// until is what was known at the moment end.
func until(end int64, calls []porcupine.Operation) []porcupine.Operation {
	var begun []porcupine.Operation
	for _, op := range calls {
		if op.Return > end {
			op.Output, op.Return = answer{silent: true}, math.MaxInt64
		}
		if op.Call <= end {
			begun = append(begun, op)
		}
	}
	return begun
}

// relevant leaves out calls that got the same answer as an earlier one, since they
// wrote nothing, as long as no order explains the rest.
func relevant(model porcupine.Model, calls []porcupine.Operation) []porcupine.Operation {
	for i := len(calls) - 1; i >= 0; i-- {
		op, a := calls[i], calls[i].Output.(answer)
		told := !a.silent && slices.ContainsFunc(calls, func(before porcupine.Operation) bool {
			b := before.Output.(answer)
			return before.Return < op.Call && b.fence == a.fence && b.revision == a.revision
		})
		if fewer := slices.Delete(slices.Clone(calls), i, i+1); told && !porcupine.CheckOperations(model, fewer) {
			calls = fewer
		}
	}
	return calls
}

func listing(calls []porcupine.Operation) string {
	var b strings.Builder
	for _, op := range calls {
		end := fmt.Sprint(op.Return)
		if op.Return == math.MaxInt64 {
			end = "…"
		}
		fmt.Fprintf(&b, "  %3d–%-3s  client %d  %v → %v\n", op.Call, end, op.ClientId, op.Input, op.Output)
	}
	return b.String()
}

// answer is what a call was answered, if it was.
type answer struct {
	silent bool
	view
	fence, revision uint64
	verdict         error
}

// answerOf treats an error that says nothing about the record as no answer. An
// error that says that the call was refused has no place in a history: it is never
// explained.
func answerOf(r store.Record, err error) answer {
	for _, verdict := range []error{nil, store.ErrSuperseded, store.ErrConflict, store.ErrMoved, store.ErrGone} {
		if errors.Is(err, verdict) {
			return answer{view: viewOf(r), fence: r.Fence, revision: r.Revision, verdict: verdict}
		}
	}
	for _, refused := range []error{store.ErrCorrupt, store.ErrVersion, store.ErrFull, store.ErrInvalid} {
		if errors.Is(err, refused) {
			return answer{verdict: err}
		}
	}
	return answer{silent: true}
}

func (a answer) String() string {
	if a.silent {
		return "?"
	}
	s := fmt.Sprintf("%q of %s, fence %d, revision %d", a.State, a.Owner, a.fence, a.revision)
	for _, detail := range []struct{ name, value string }{{"by", a.By}, {"outcome", a.Outcome}, {"kept", a.Kept}} {
		if detail.value != "" {
			s += ", " + detail.name + " " + detail.value
		}
	}
	if a.Generation > 0 {
		s += fmt.Sprintf(", generation %d", a.Generation)
	}
	if a.Marked {
		s += ", marked"
	}
	if a.verdict != nil {
		s += ": " + a.verdict.Error()
	}
	return s
}
