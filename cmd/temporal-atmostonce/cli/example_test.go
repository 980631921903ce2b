package cli_test

import (
	"log"

	"go.temporal.io/sdk/converter"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/cmd/temporal-atmostonce/cli"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/store"
)

// A tool of your own checks results against your activities' types, encodes them as your
// workers do, and says what your policies do next.
func ExampleMain() {
	records, err := store.NewFile("/var/lib/atmostonce", store.FileOptions{}) // the workers' store
	if err != nil {
		log.Fatalln(err)
	}
	guard, err := interceptor.New(records, interceptor.Options{
		Activities:    once.Mark(once.Policy{}, "ChargeCard"), // the workers' marks
		DataConverter: converter.GetDefaultDataConverter(),    // the workers' client's
	})
	if err != nil {
		log.Fatalln(err)
	}
	cli.Main(cli.Options{Guard: guard, Store: records})
}
