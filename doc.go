// Package atmostonce guards plain Go functions: each takes effect at most once per
// key, for as long as its record is remembered and the store keeps what it
// acknowledged. It is the door for programs without Temporal, and for code in a
// Temporal program that is no activity; package interceptor is the one for activities.
// Both share policies, keys, stores and records.
//
//	guard, err := atmostonce.New(s, atmostonce.Options{})
//	charge := atmostonce.Func(guard, "charge", once.Policy{
//		Key: keys.From(func(in Event) string { return in.ID }),
//	}, chargeCard)
//	receipt, err := charge(ctx, event) // a second delivery gets the same receipt
//
// For each call the guard makes the key, asks the store for it, and then runs the
// function, replays the recorded outcome, or answers with an [*Error] that says why it
// did neither. A running function may ask for its key and say what an error means, with
// package once.
package atmostonce
