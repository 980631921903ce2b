package order

import (
	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/store"
)

// Guard is all that the guarded worker has beyond the other one, together with one
// line where the client is made:
//
//	client.Options{Plugins: []client.Plugin{guard}}
//
// o can mark further activities.
func Guard(s store.Store, p *Payments, o interceptor.Options) (*interceptor.Guard, error) {
	o.Activities = append(o.Activities, once.Mark(once.Policy{
		Key:         keys.From(func(c Charge) string { return c.OrderID }),
		Scope:       keys.PerNamespace,            // one charge per order, whichever workflow asks
		OnDuplicate: once.Wait,                    // while another attempt is at it
		InDoubt:     once.Reconcile(p.FindCharge), // the worker died mid-charge? ask the provider
	}, p.ChargeCard)...)
	return interceptor.New(s, o)
}
