package telemetry_test

import (
	"context"
	"fmt"
	"log"

	"go.opentelemetry.io/otel"
	"go.temporal.io/sdk/client"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/telemetry"
)

func ExampleNewOTel() {
	guard, err := interceptor.New(store.NewMemory(store.MemoryOptions{}), interceptor.Options{
		Activities: once.Mark(once.Policy{}, "ChargeCard"),
		Summaries:  true,
		Observers: []observe.Observer{telemetry.NewOTel(telemetry.Options{
			MeterProvider: otel.GetMeterProvider(), // without it: Temporal's metrics handler
		})},
	})
	if err != nil {
		log.Fatalln(err)
	}
	// A tracing interceptor in Options.Interceptors stands outside of the guard,
	// whose spans are then children of RunActivity.
	c, err := client.Dial(client.Options{Plugins: []client.Plugin{guard}})
	if err != nil {
		log.Fatalln(err)
	}
	defer c.Close()
}

// What is in doubt, as the errors, logs and spans name it.
func Example_inDoubt() {
	s := store.NewMemory(store.MemoryOptions{}) // any store
	for r, err := range s.List(context.Background(), store.Query{State: store.InDoubt}) {
		if err != nil {
			log.Fatalln(err)
		}
		fmt.Println(r.Info.Activity, "since", r.Doubted, "last run by", r.Info.Holder.WorkflowID)
	}
}
