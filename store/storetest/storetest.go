// Package storetest checks that a [store.Store] keeps its contract.
//
// A store that passes [Run] can be given to a guard. Every case that fails says
// which part of the contract it is about and why that part is there.
package storetest

import "testing"

// Run holds the stores of newHarness to the contract, each case in a parallel
// subtest. newHarness is called once for each case; the data of the harnesses
// must not touch.
func Run(t *testing.T, newHarness func(t *testing.T) Harness) {
	for _, group := range suite() {
		t.Run(group.name, func(t *testing.T) {
			t.Parallel()
			for _, c := range group.cases {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					c.checkAround(t, newHarness(t))
				})
			}
		})
	}
}

type group struct {
	name  string
	cases []testCase
}

func suite() []group {
	return []group{
		{"acquire", acquireCases},
		{"lease", leaseCases},
		{"settle", settleCases},
		{"release", releaseCases},
		{"takeover", takeoverCases},
		{"resolve", resolveCases},
		{"correct", correctCases},
		{"erase", eraseCases},
		{"late", lateCases},
		{"expiry", expiryCases},
		{"bytes", bytesCases},
		{"keys", keysCases},
		{"list", listCases},
		{"open", openCases},
		{"notify", notifyCases},
		{"calls", callsCases},
		{"contention", contentionCases},
		{"races", raceCases},
		{"linear", linearCases},
	}
}
