package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	once "github.com/atmostonce/atmostonce/activity"
	"github.com/atmostonce/atmostonce/interceptor"
	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/store"
)

// measureServer measures workflows on a real Temporal server, with the guard where it
// belongs, as a plugin of the client.
func measureServer(ctx context.Context, l *lab) error {
	server, address, err := startTemporal(ctx, l.dir, l.answers)
	if err != nil {
		return err
	}
	defer server.kill()
	dir, err := l.folder("server")
	if err != nil {
		return err
	}
	places, err := l.places(dir, "server:")
	if err != nil {
		return err
	}
	defer closeAll(places)
	var turns []turn
	var fleets []*fleet
	defer func() {
		for _, f := range fleets {
			f.stop()
		}
	}()
	add := func(name string, s store.Store, observers ...observe.Observer) error {
		f, err := newFleet(address, s, observers...)
		if err == nil {
			fleets = append(fleets, f)
			turns = append(turns, turn{name: name, measure: func(ctx context.Context, _ int) (float64, error) { return f.rate(ctx, l.size(16, 2)) }})
		}
		return err
	}
	err = errors.Join(add("unguarded", nil), add("unguarded, again", nil))
	for _, p := range places {
		err = errors.Join(err, add("guarded, "+p.name, p.store))
		if p.name == "Redis" {
			err = errors.Join(err, add("guarded, Redis, sampled spans", p.store, sampled()))
		}
	}
	if err != nil {
		return err
	}
	return l.compare(ctx, "server", "workflows", "/s", l.rounds(20), turns)
}

// answers reports why the server does not serve yet, and notes its version if it does.
func (l *lab) answers(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second) // or the client goes on trying
	defer cancel()
	c, err := client.DialContext(ctx, client.Options{HostPort: address, Logger: quiet})
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{}); err != nil {
		return err
	}
	info, err := c.WorkflowService().GetSystemInfo(ctx, &workflowservice.GetSystemInfoRequest{})
	l.report.Machine.Temporal = info.GetServerVersion()
	return err
}

// fleet is a worker and a client with a task queue of their own.
type fleet struct {
	client client.Client
	worker worker.Worker
	queue  string
	made   atomic.Int64
}

const calls = 3 // activities of a workflow

func chargeThrice(ctx workflow.Context, order string) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
	for i := range calls {
		if err := workflow.ExecuteActivity(ctx, activityName, charge{order, i}).Get(ctx, nil); err != nil {
			return err
		}
	}
	return nil
}

func newFleet(address string, s store.Store, observers ...observe.Observer) (*fleet, error) {
	f := &fleet{queue: "bench-" + newKey()}
	o := client.Options{HostPort: address, Logger: quiet}
	if s != nil {
		guard, err := interceptor.New(s, interceptor.Options{Activities: once.Mark(once.Policy{}, chargeCard), Observers: observers})
		if err != nil {
			return nil, err
		}
		o.Plugins = []client.Plugin{guard}
	}
	var err error
	if f.client, err = client.Dial(o); err != nil {
		return nil, err
	}
	f.worker = worker.New(f.client, f.queue, worker.Options{})
	f.worker.RegisterWorkflow(chargeThrice)
	f.worker.RegisterActivity(chargeCard)
	return f, f.worker.Start()
}

func (f *fleet) stop() {
	f.worker.Stop()
	f.client.Close()
}

// rate runs n workflows, 16 at once, and returns how many end in a second.
func (f *fleet) rate(ctx context.Context, n int) (float64, error) {
	const atOnce = 16
	next := f.made.Load() + int64(n)
	start := time.Now()
	err := together(atOnce, func(int) error {
		for {
			i := f.made.Add(1)
			if i > next {
				return nil
			}
			id := fmt.Sprintf("%s-%d", f.queue, i)
			run, err := f.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: id, TaskQueue: f.queue}, chargeThrice, id)
			if err != nil {
				return err
			}
			if err := run.Get(ctx, nil); err != nil {
				return err
			}
		}
	})
	return float64(n) / time.Since(start).Seconds(), err
}
