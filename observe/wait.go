package observe

import "github.com/atmostonce/atmostonce/once"

// WaitResult says how a wait for another call ended. It is one of these, or
// Event.ErrorType where the call was refused for another reason.
type WaitResult string

// How a wait ended.
const (
	WaitCompleted WaitResult = "completed"  // the owner succeeded
	WaitFailed    WaitResult = "failed"     // the owner failed for good
	WaitReleased  WaitResult = "released"   // the key was free again
	WaitOwnerLost WaitResult = "owner_lost" // the owner's effect went in doubt
	WaitTimeout   WaitResult = "timeout"    // the call's own time was over
	WaitCancelled WaitResult = "cancelled"  // the call was
	WaitStopped   WaitResult = "stopped"    // the worker was
	WaitStoreDown WaitResult = "store_down" // it was the store that was waited for
)

// waitResults are what Event.Waited can be.
func waitResults() []WaitResult {
	results := []WaitResult{WaitCompleted, WaitFailed, WaitReleased, WaitOwnerLost, WaitTimeout, WaitCancelled, WaitStopped}
	for _, r := range []once.Reason{once.Duplicate, once.Mismatch, once.OutcomeNotKept, once.StoreDown, once.BadRecord, once.BadSetup} {
		results = append(results, WaitResult(reasonLabel(r)))
	}
	return results
}
