package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
)

func TestDistrust_OfACallAboutWhichNothingWasDecided(t *testing.T) {
	t.Parallel()
	rollOut := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	type given struct {
		since     time.Time
		attempt   int32
		scheduled time.Time
		record    store.Record
	}
	old := given{rollOut, 2, rollOut.Add(-time.Minute), store.Record{State: store.Running, Owner: "a", Origin: store.First}}
	change := func(f func(*given)) given {
		g := old
		f(&g)
		return g
	}
	after := func(what string) func(*given) {
		return func(g *given) { g.record.History = []store.Turn{{What: what}} }
	}
	for name, c := range map[string]struct {
		given
		want bool
	}{
		"a retry from before":          {old, true},
		"after a bid was given back":   {change(after(store.TurnReleased)), true},
		"after an operator's decision": {change(after(store.TurnResolved)), false},
		"after a takeover":             {change(after(store.TurnTakenOver)), false},
		"a takeover":                   {change(func(g *given) { g.record.Origin = store.Clean }), false},
		"attempt 1, perhaps a reset's": {change(func(g *given) { g.attempt = 1 }), true},
		"scheduled under the guard":    {change(func(g *given) { g.scheduled = rollOut }), false},
		"where nothing is distrusted":  {change(func(g *given) { g.since = time.Time{} }), false},
		"whose key another call has":   {change(func(g *given) { g.record.Owner = "b" }), false},
		"whose key has been settled":   {change(func(g *given) { g.record.State = store.Succeeded }), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := requestWith(Attempt{})
			r.Holder.Attempt, r.Holder.Scheduled = c.attempt, c.scheduled
			call := callOf(r, Options{DistrustBefore: c.since})
			require.Equal(t, c.want, call.isOlder() && isFirst(c.record, "a"))
		})
	}
}
