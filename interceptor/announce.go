package interceptor

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.temporal.io/sdk/log"
)

// announce logs, once for a worker, which of its activities are guarded and how:
// when it starts, or where the client's logger is not known, at the first guarded
// call. Mode and the logger are others' code.
func (w *workerGuard) announce(logger log.Logger) {
	if logger == nil || w.options == nil || !w.types.any() || !w.announced.CompareAndSwap(false, true) {
		return
	}
	defer func() { _ = recover() }()
	guarded, others := w.coverage()
	logger.Info("atmostonce: worker starts", "TaskQueue", w.queue, "Store", w.guard.engine.Kind(),
		"Guarded", brief(guarded), "NotGuarded", brief(others))
}

// coverage lists the worker's activities: those with a mark, as it now works, and
// the others.
func (w *workerGuard) coverage() (guarded, others []string) {
	g, types := w.guard, w.types.all()
	for _, name := range slices.Sorted(maps.Keys(types)) {
		if v := w.judge(name, false); v.marked {
			guarded = append(guarded, g.terms(v.mark, name))
		} else {
			others = append(others, name)
		}
	}
	if !w.types.hasDynamic() {
		return guarded, others
	}
	rest := &others
	for _, m := range g.marks {
		_, registered := types[m.Name]
		switch {
		case m.Func == nil && !m.Exempt && !registered:
			guarded = append(guarded, g.terms(m, m.Name))
		case m.rank == ofAll:
			rest = &guarded
		}
	}
	*rest = append(*rest, "what the dynamic activity serves besides")
	return guarded, others
}

// terms says how an activity is guarded.
func (g *Guard) terms(m mark, name string) string {
	p := m.policy
	return fmt.Sprintf("%s (%v, %v, OnDuplicate %v, OnFailure %v, InDoubt %v)", name, g.modeOf(m, name), p.Scope, p.OnDuplicate, p.OnFailure, p.InDoubt)
}

// briefly bounds what one log line says of many activities, in bytes.
const briefly = 2000

func brief(list []string) string {
	var b strings.Builder
	for i, item := range list {
		if b.Len()+len(item) > briefly {
			fmt.Fprintf(&b, " and %d more", len(list)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(item)
	}
	return strings.TrimSpace(b.String())
}
