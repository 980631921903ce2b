// Package page is a web page for those who decide about records in doubt: which there
// are, what is known of one, and what became of its effect.
//
//	p, err := page.New(records, page.Options{})
//	mux.Handle("/atmostonce/", p)
//
// What is in doubt comes first, oldest first, then what is running and pending. What is
// settled is shown by a search, for the digest of a key, a key or a workflow ID, or by
// a filter. All of it is in the URL. Nothing is shown of keys, inputs and results unless
// [Options] says so, and nothing can be changed unless it has a [Resolver].
//
// The page is plain HTML, without scripts. A [Handler] looks only at the last part of a
// request's path, and its links are relative: it may be mounted under any path that ends
// in a slash, with http.StripPrefix or without, behind a proxy that changes the path or
// leaves it. It authenticates nobody: mount it behind what does.
package page
