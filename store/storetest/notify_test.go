package storetest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
)

// notifying is a Memory with another Notify.
type notifying struct {
	*store.Memory
	notify func(m *store.Memory, key string, changed chan<- struct{}) (stop func())
}

func (n *notifying) Notify(key string, changed chan<- struct{}) (stop func()) {
	return n.notify(n.Memory, key, changed)
}

// patient is a Memory that waits for whoever listens to a settlement.
type patient struct {
	*store.Memory
	listens chan<- struct{}
}

func (p *patient) Notify(key string, changed chan<- struct{}) (stop func()) {
	p.listens = changed
	inner := p.Memory.Notify(key, changed)
	return func() { inner(); p.listens = nil }
}

func (p *patient) Settle(ctx context.Context, b store.Bid, o store.Outcome) (store.Record, error) {
	r, err := p.Memory.Settle(ctx, b, o)
	if p.listens != nil && cap(p.listens) == 0 {
		p.listens <- struct{}{}
	}
	return r, err
}

func TestRun_RefusesBrokenNotifiers(t *testing.T) {
	t.Parallel()
	const announced = "notify/what may end a wait is announced"
	never := func(*store.Memory, string, chan<- struct{}) func() { return func() {} }
	for name, broken := range map[string]struct {
		refused string
		open    func(m *store.Memory) store.Store
	}{
		"never sends": {announced, func(m *store.Memory) store.Store { return &notifying{m, never} }},
		"sends when it is asked, and no more": {announced, func(m *store.Memory) store.Store {
			return &notifying{m, func(_ *store.Memory, _ string, changed chan<- struct{}) func() {
				select {
				case changed <- struct{}{}:
				default:
				}
				return func() {}
			}}
		}},
		"sends of one key only": {announced, func(m *store.Memory) store.Store {
			return &notifying{m, func(m *store.Memory, key string, changed chan<- struct{}) func() {
				if key == theKey {
					return m.Notify(key, changed)
				}
				return never(m, key, changed)
			}}
		}},
		"waits for who listens": {"notify/a notice waits for nobody", func(m *store.Memory) store.Store { return &patient{Memory: m} }},
		"does not stop": {"notify/nothing is announced after the stop", func(m *store.Memory) store.Store {
			return &notifying{m, func(m *store.Memory, key string, changed chan<- struct{}) func() {
				m.Notify(key, changed)
				return func() {}
			}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failed := failures(t, func() store.Store { return broken.open(store.NewMemory(store.MemoryOptions{})) })
			require.Contains(t, failed, broken.refused)
		})
	}
}
