package interceptor_test

import (
	"log"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"google.golang.org/grpc"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/store"
)

// A client that encrypts in a gRPC interceptor: its data converter does not, so
// the guard needs one that does for what it stores.
func ExampleOptions_dataConverter() {
	var codec converter.PayloadCodec // the one that encrypts
	encrypt, err := converter.NewPayloadCodecGRPCClientInterceptor(converter.PayloadCodecGRPCClientInterceptorOptions{
		Codecs: []converter.PayloadCodec{codec},
	})
	if err != nil {
		log.Fatalln(err)
	}
	s, err := store.NewFile("/var/lib/atmostonce", store.FileOptions{})
	if err != nil {
		log.Fatalln(err)
	}
	guard, err := interceptor.New(s, interceptor.Options{
		Activities:    once.Mark(once.Policy{}, (&Payouts{}).PayOut),
		DataConverter: converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), codec),
	})
	if err != nil {
		log.Fatalln(err)
	}
	c, err := client.Dial(client.Options{
		Plugins:           []client.Plugin{guard},
		ConnectionOptions: client.ConnectionOptions{DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(encrypt)}},
	})
	if err != nil {
		log.Fatalln(err)
	}
	c.Close()
}
