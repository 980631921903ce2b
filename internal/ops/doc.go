// Package ops has what the operator's tool and the operator's page share: a record as
// people read it ([View]), how records are found and listed ([Console]), what is said
// before a decision and kept after it ([Risk], [Entry]), and how text that strangers
// wrote is made harmless ([Text], [JSON]). It writes nothing anywhere.
package ops
