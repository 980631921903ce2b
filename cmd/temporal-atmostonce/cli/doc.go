// Package cli is the operator's tool temporal-atmostonce. A program of your own with
// the same commands knows your marks, your converter and your store:
//
//	func main() {
//		guard, s := newGuard() // as your worker makes them
//		cli.Main(cli.Options{Guard: guard, Store: s})
//	}
//
// Name it temporal-NAME and put it on the PATH: Temporal's CLI, from version 1.6, runs
// it as "temporal NAME".
package cli
