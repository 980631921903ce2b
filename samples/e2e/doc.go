// Package e2e tests the guard on a real Temporal server, with worker processes
// that are really killed.
package e2e
