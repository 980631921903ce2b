package cli_test

import (
	"log"

	"github.com/atmostonce/atmostonce/cmd/temporal-atmostonce/cli"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/store"

	once "github.com/atmostonce/atmostonce/activity"
)

func charge() error { return nil }

// A tool of one's own has the marks, the store and the converter of the workers.
func ExampleMain() {
	main := func() {
		records, err := store.NewFile("charges", store.FileOptions{})
		if err != nil {
			log.Fatal(err)
		}
		guard, err := interceptor.New(records, interceptor.Options{Activities: once.Mark(once.Policy{}, charge)})
		if err != nil {
			log.Fatal(err)
		}
		cli.Main(cli.Options{Guard: guard, Store: records})
	}
	_ = main
}
