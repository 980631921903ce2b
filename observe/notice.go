package observe

// Notice is something to know that changed no answer.
type Notice string

// The notices.
const (
	LeaseLost      Notice = "lease_lost"      // a running body was superseded, or could not renew in time
	RenewFailed    Notice = "renew_failed"    // a renewal got no answer; it is tried again
	SettleDelayed  Notice = "settle_delayed"  // the outcome is not written yet; that goes on in the background
	SettleFailed   Notice = "settle_failed"   // the outcome could not be written before the worker stopped
	StoreLost      Notice = "store_lost"      // the store had forgotten a claim
	StoreForgot    Notice = "store_forgot"    // the store has lost records; see store.ErrForgot
	StoreReplaced  Notice = "store_replaced"  // the store may have lost records; see store.ErrReplaced
	StoreUnsafe    Notice = "store_unsafe"    // the store is set up such that it may lose records
	Conflict       Notice = "conflict"        // a superseded run succeeded: evidence of two executions
	Reconciled     Notice = "reconciled"      // a Reconcile function or a ledger said what happened; Event.Err if it could not
	Overruled      Notice = "overruled"       // the effect is in a ledger, so its outcome is the answer; Event.Err is what the body returned after it
	OtherRun       Notice = "other_run"       // the replayed outcome is another workflow run's
	SameRun        Notice = "same_run"        // the replayed outcome is another call's of the same run
	NoHeader       Notice = "no_header"       // scope is PerRun or PerCall, but the call has no usable header: a reset of it is another call
	OneAttempt     Notice = "one_attempt"     // MaximumAttempts is 1: what is in doubt cannot be cleared by a retry
	PolicyDefeated Notice = "policy_defeated" // timeouts or the retry policy keep the policy from being carried out; Event.Err says which, and what to change
	Resolved       Notice = "resolved"        // an operator resolved the key; Event.Record as it then is
	Erased         Notice = "erased"          // an operator had the key's record erased, by Guard.Forget; the last turn of Event.Record says who and why
	Observed       Notice = "observed"        // under Mode Observe the body ran, which Enforce would not have run; Event.Reason, or a replay if that is empty
)

// Notices returns all notices.
func Notices() []Notice {
	return []Notice{LeaseLost, RenewFailed, SettleDelayed, SettleFailed, StoreLost, StoreForgot, StoreReplaced, StoreUnsafe,
		Conflict, Reconciled, Overruled, OtherRun, SameRun, NoHeader, OneAttempt, PolicyDefeated, Resolved, Erased, Observed}
}

// InDoubt is what Event.Warning returns of a call that leaves its effect in doubt. It
// is not among Notices: such a call is counted by what it ends in.
const InDoubt Notice = "in_doubt"

// Remedy says what to do about a notice, or about InDoubt; "" if nothing needs to be
// done. DIGEST in it stands for the digest of the key: see [Event.Remedy].
func Remedy(notice Notice) string { return remedies[notice] }

var remedies = map[Notice]string{
	InDoubt:        "nobody knows whether the effect took place; find out at the callee, then settle it: temporal atmostonce show DIGEST",
	Conflict:       "two runs had the effect; compare with the callee",
	LeaseLost:      "another call may run beside this one; compare with the callee, and raise Lease if the store was only slow",
	NoHeader:       "a reset of this call would be another effect; install the guard, or interceptor.Workflows, on the worker that runs the workflow",
	Observed:       "Mode Observe ran the body; Enforce would have replayed the outcome, or refused for the reason given",
	OneAttempt:     "no retry can clear what ends in doubt; allow more attempts",
	Overruled:      "the effect took place, and its outcome counts; what the body does after it is not done again",
	PolicyDefeated: "in some case the policy is not carried out; change what the error names",
	OtherRun:       "equal calls of all runs of a workflow ID are one effect under this scope; if each run means its own, use keys.PerRun",
	SameRun:        "two equal calls in one run are one effect under this scope; if both are meant, use a Key, or keys.PerCall",
	SettleFailed:   "the outcome is not recorded, so the key goes in doubt; find out at the callee, then settle it: temporal atmostonce show DIGEST",
	StoreForgot:    "effects whose records are gone may happen again; compare those of the time before with their callees",
	StoreReplaced:  "what the store had not made durable or replicated is lost; compare the last effects with their callees",
	StoreUnsafe:    "set the store up as the error says, before records are lost",
	StoreLost:      "the store had forgotten the claim; check its durability and eviction",
}
