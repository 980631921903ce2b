package interceptor

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// verdict is what the guard knows of an activity task before its input is there.
type verdict struct {
	mark     mark
	marked   bool
	code     function // what the type is registered for, if it is
	local    bool
	plugin   bool
	suspects []mark // functions that may be run under the type's name all the same
}

// judge says whether an activity task is guarded.
func (t *typeTable) judge(name string, local bool) verdict {
	r, registered := t.all()[name]
	i := r.mark
	if !registered {
		// It is served by a dynamic activity, or is a local activity passed as a
		// function, or the guard is without a plugin.
		i = slices.IndexFunc(t.marks.all, func(m mark) bool { return m.Func == nil && m.Name == name })
		if i == unmarked && !isInternal(name) {
			i = slices.IndexFunc(t.marks.all, func(m mark) bool { return m.rank == ofAll })
		}
	}
	v := verdict{code: r.function, local: local, plugin: t.options != nil}
	if i != unmarked {
		v.mark = t.marks.all[i]
		v.marked = !v.mark.Exempt
		if v.mark.Func == nil {
			return v // somebody said the name
		}
	}
	if local || !v.plugin {
		v.suspects = t.suspects(name, r)
	}
	return v
}

// suspects returns the marked functions that the SDK may run under that name
// although r, if there is one, is registered for it. For a method with a pointer
// receiver it runs what is registered.
func (t *typeTable) suspects(name string, r registration) []mark {
	var all []mark
	for _, m := range t.marks.all {
		switch {
		case m.Exempt || m.function.id == "" || m.function.id == r.id:
		case r.activity != "" && strings.Contains(m.function.id, "*"):
		case t.typeOf(m.function.name) == name:
			all = append(all, m)
		}
	}
	return all
}

var errUnclear = errors.New("this may be a marked function")

// with is the verdict on a call with these arguments. An error says that what is
// called cannot be known.
func (v verdict) with(args []any) (m mark, marked bool, err error) {
	if v.local && v.code.typ != nil && v.mark.Func != nil && !v.code.takes(args) {
		v.marked = false // it is a function of another signature
	}
	for _, m := range v.suspects {
		switch {
		case !m.function.takes(args):
		case v.plugin:
			return m, true, fmt.Errorf("%w: of a local activity the SDK shows the short name only, which %s has, and so may others: register it on this worker under a name of its own and call it by that; or mark or exempt the name", errUnclear, m.function.id)
		default:
			return m, true, fmt.Errorf("%w: %s has the name, and without a plugin the guard sees no registrations: list the guard in Plugins, or mark the registered name", errUnclear, m.function.id)
		}
	}
	return v.mark, v.marked, nil
}

// isInternal reports whether the SDK has registered the activity for itself.
func isInternal(name string) bool {
	return strings.HasPrefix(name, "internalSession") || strings.HasPrefix(name, "__temporal_")
}
