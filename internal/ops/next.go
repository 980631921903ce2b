package ops

import (
	"fmt"

	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// Command begins every command that is printed.
const Command = "temporal atmostonce"

// next says what comes of a record, and what there is to do about it.
func next(v View, p once.Policy) []string {
	switch v.State {
	case store.InDoubt:
		return inDoubt(v, p)
	case store.Pending:
		if v.Deadline.IsZero() || v.now.Before(v.Deadline) {
			return []string{"Its end will be reported from outside, with Guard.Complete. There is nothing to do."}
		}
		return []string{"Its end is overdue: find out at the callee, and report it with Guard.Complete, or decide here.", until(v)}
	case store.Running:
		if v.now.Before(v.LeaseEnd) {
			return []string{"It runs. There is nothing to do: if its worker dies, it goes in doubt."}
		}
		return []string{"Nothing has been heard of its worker since the end of its lease. The next attempt, or another call of the key, marks it in doubt unless the owner still lives."}
	case store.Succeeded:
		return []string{"Duplicates get the recorded result until " + expiry(v) + "."}
	case store.Failed:
		return []string{"Duplicates get the recorded failure until " + expiry(v) + ", and are not retried."}
	case store.Tombstone:
		return []string{"The next call of the key runs."}
	}
	return []string{"There is no record: the next call of the key runs."}
}

func inDoubt(v View, p once.Policy) []string {
	wait := []string{until(v)}
	switch held, limited := p.InDoubt.HoldTime(); {
	case p.InDoubt == (once.DoubtPolicy{}):
		wait = append(wait, "The policy of its worker decides what the next attempt does. Under Hold, the default, it waits until somebody decides here.")
	case p.InDoubt.Reconciles():
		wait = append(wait, "The next attempt asks the callee, by the Reconcile function of the policy. Decide here only if that cannot answer.")
	case p.InDoubt.TakesOver():
		wait = append(wait, fmt.Sprintf("The next attempt runs it again (policy %v), whether or not it happened.", p.InDoubt))
	case limited:
		wait = append(wait, fmt.Sprintf("Attempts wait until somebody decides here; after %v in doubt the call fails (policy %v).", held, p.InDoubt))
	case p.InDoubt == once.Fail:
		wait = append(wait, "The next attempt fails for good (policy Fail), and its workflow goes on; duplicates fail, too, until somebody decides here.")
	default:
		wait = append(wait, "Every attempt waits until somebody decides here (policy Hold).")
	}
	return append(wait, "Find out at the callee: search there for the key that it was given, "+v.Callee+".")
}

// until says how long nobody can know that it did not happen.
func until(v View) string {
	if v.MayActUntil.IsZero() {
		return "The last owner can no longer act: what the callee says now is final."
	}
	return fmt.Sprintf("The last owner may act until %s (%s): --not-done is refused before.", Time(v.MayActUntil), v.Ago(v.MayActUntil))
}

func expiry(v View) string {
	if v.Expires.IsZero() {
		return "somebody forgets it"
	}
	return Time(v.Expires)
}

// command is the one that an operator needs next; "" if there is none. It holds
// nothing that strangers wrote.
func command(v View) string {
	switch v.State {
	case store.InDoubt, store.Pending:
		return Command + " resolve " + v.Digest + " --done|--not-done|--failed MESSAGE --reason WHY"
	case store.Succeeded, store.Failed:
		return Command + " reopen " + v.Digest + " --reason WHY"
	}
	return ""
}
