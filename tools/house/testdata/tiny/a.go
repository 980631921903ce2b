// Package tiny is measured by the test of house: a.go, b.go and c.go are a knot,
// d.go and e.go a smaller one, and f.go uses none of them.
package tiny

// A has three methods, in two files.
type A struct{ field int } // which c.go uses

/*
not
a line of code
*/

// M is in a.go.
func (a *A) M() int { return two() + F }

// Text has a line that
// is no comment.
const Text = `
// three lines of code
`
