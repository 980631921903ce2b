package engine

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// Identity says which call it is: pure data.
type Identity struct {
	Activity string       // the type, as it is called
	Queue    string       // the task queue, for metrics
	Holder   store.Holder // as records name the call; without an Occurrence it has no usable header

	Input string // the digest of the input, hidden by the secret if there is one
	Match string // what a duplicate must agree on, likewise
	// Key names the effect; empty where none could be made. Downstream is what the
	// callee gets for it, and Digest, the beginning of that, what people get.
	Key, Downstream, Digest string
}

// Named returns i with that key.
func (i Identity) Named(key string) Identity {
	i.Key, i.Downstream = key, keys.Downstream(key)
	i.Digest = i.Downstream[:16]
	return i
}

// derive returns i with what the policy's functions make of the call: the key, and
// what a duplicate must agree on. c.Input is i.Input. A panic of theirs is an error
// like any other, without its value, which may show input.
func (i Identity) derive(p once.Policy, secret Secret, c keys.Call) (named Identity, err error) {
	defer func() {
		if p := recover(); p != nil {
			named, err = i, fmt.Errorf("a key function panicked: %s", panicked(p))
		}
	}()
	match, err := p.Match.Part(c)
	if err != nil {
		return i, fmt.Errorf("Match: %v", err) //nolint:errorlint // ErrSkip is for Key alone
	}
	i.Match = secret.hide(match)
	f := p.Key
	if !f.IsZero() && !f.IsHash() { // the input is hidden already
		f = secret.hidden(f)
	}
	key, err := keys.Make(p.Scope, f, c)
	if err != nil {
		return i, err
	}
	return i.Named(key), nil
}

// panicked is what to say of a panic that has just been recovered from: the
// runtime's own message, or the value's type, and where it began.
func panicked(p any) string {
	what := fmt.Sprintf("a value of type %T", p)
	if e, ok := p.(runtime.Error); ok {
		what = e.Error()
	}
	var stack [64]uintptr
	frames := runtime.CallersFrames(stack[:runtime.Callers(0, stack[:])])
	for panics := false; ; {
		f, more := frames.Next()
		switch inRuntime := strings.HasPrefix(f.Function, "runtime."); {
		case f.Function == "runtime.gopanic":
			panics = true
		case panics && !inRuntime:
			return fmt.Sprintf("%s, at %s:%d", what, filepath.Base(f.File), f.Line)
		}
		if !more {
			return what
		}
	}
}

// hasHeader reports whether the call is known again after a reset of its workflow.
func (i Identity) hasHeader() bool { return i.Holder.Occurrence > 0 }

// isRetryOf reports whether r's owner was an earlier attempt of this call. The time
// of scheduling distinguishes calls: activity IDs are unique among pending activities
// only.
func (i Identity) isRetryOf(r store.Record) bool {
	h, own := r.Info.Holder, i.Holder
	if h.Local && own.Local {
		// Neither its ID nor its time of scheduling survives the worker.
		return h.Namespace == own.Namespace && h.RunID == own.RunID &&
			r.Info.Activity == i.Activity && r.Info.Input == i.Input &&
			(!i.hasHeader() || h.Occurrence <= 0 || h.Occurrence == own.Occurrence)
	}
	return h.Namespace == own.Namespace && h.RunID == own.RunID &&
		h.ActivityRunID == own.ActivityRunID && h.ActivityID == own.ActivityID &&
		h.Local == own.Local && h.Scheduled.Equal(own.Scheduled)
}

// isSameCall reports whether r's owner was an attempt of this call, in this run or
// before a reset of it. The occurrence alone does not say so: calls of each input are
// counted apart.
func (i Identity) isSameCall(r store.Record) bool {
	h, own := r.Info.Holder, i.Holder
	return i.isRetryOf(r) || i.hasHeader() && h.Namespace == own.Namespace &&
		h.OriginalRunID == own.OriginalRunID && h.Occurrence == own.Occurrence &&
		r.Info.Activity == i.Activity && r.Info.Input == i.Input
}

// isSameRun reports whether r's owner belongs to this run, or to a run that this one
// is a reset of.
func (i Identity) isSameRun(r store.Record) bool {
	h, own := r.Info.Holder, i.Holder
	return h.RunID == own.RunID && h.ActivityRunID == own.ActivityRunID ||
		i.hasHeader() && h.OriginalRunID == own.OriginalRunID
}

// lacksHeader reports whether this is the first attempt of a call that a reset would
// give another key.
func (i Identity) lacksHeader(s keys.Scope) bool {
	return (s == keys.PerRun || s == keys.PerCall) && i.Holder.WorkflowID != "" && i.Holder.Attempt <= 1 && !i.hasHeader()
}
