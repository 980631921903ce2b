// Package activity says which activities act on the world, and gives a running one
// its key. Import it as once, beside the SDK's package activity:
//
//	import once "github.com/atmostonce/atmostonce/activity"
//
// A worker's set-up marks activities: functions, methods, names or whole structs
// ([Mark]), and those that are deliberately not guarded ([Exempt]). A running
// activity may ask for its key ([Key], [FromContext]) and may say where its effect
// begins ([Begin]) and how a failure is to be understood ([NotDone], [MaybeDone]).
// Workflow code may ask what an error means ([MayHaveHappened], [Why], [Is]).
package activity
