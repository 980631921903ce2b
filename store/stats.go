package store

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"
)

// Stat counts the records of one activity in one state.
type Stat struct {
	Namespace string
	Activity  string
	State     State // Running, InDoubt or Pending
	Count     int
	Oldest    time.Time     // Record.Since of the oldest of them
	Age       time.Duration // of the oldest, by the store's clock
}

// Stats counts the records that are running, in doubt or pending, by namespace,
// activity and state, in that order. What is settled is not counted: stores find it
// only by a look at every record. Records that cannot be read are left out; the
// error says why, and comes beside the others.
func Stats(ctx context.Context, s Store) ([]Stat, error) {
	counted := map[Stat]*Stat{}
	var errs []error
	for _, state := range []State{Running, InDoubt, Pending} {
		for r, err := range s.List(ctx, Query{State: state}) {
			if err != nil {
				errs = append(errs, err)
				continue
			}
			id := Stat{Namespace: r.Info.Holder.Namespace, Activity: r.Info.Activity, State: state}
			stat, known := counted[id]
			if !known {
				stat = &Stat{Namespace: id.Namespace, Activity: id.Activity, State: state, Oldest: r.Since(), Age: r.Now.Sub(r.Since())}
				counted[id] = stat
			}
			stat.Count++
		}
	}
	var all []Stat
	for _, stat := range counted {
		all = append(all, *stat)
	}
	slices.SortFunc(all, func(a, b Stat) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Activity, b.Activity), cmp.Compare(a.State, b.State))
	})
	return all, errors.Join(errs...)
}
