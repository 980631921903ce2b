// Temporal-atmostonce shows what a guard has recorded, and decides what is in doubt.
// It works alone, and as "temporal atmostonce" of Temporal's CLI.
package main

import "github.com/atmostonce/atmostonce/cmd/temporal-atmostonce/cli"

func main() { cli.Main(cli.Options{}) }
