// Package once has the words for effects that happen at most once: how a call is
// guarded ([Policy], [Mode]), what a running call may know of its claim ([Key],
// [FromContext]) and say about its effect ([Begin], [NotDone], [MaybeDone]), and why
// a guard did not run a call ([Reason], [Refusal]).
//
// It knows nothing of Temporal. In a Temporal worker, import package activity as
// once instead: it has all of these words, and those for activities besides.
package once
