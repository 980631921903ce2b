package observe_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/atmostonce/atmostonce/observe"
	"github.com/atmostonce/atmostonce/once"
)

// printer is an Observer that prints what becomes of each call, and what is noticed.
type printer struct{ to io.Writer }

func (p printer) Begin(ctx context.Context, _ observe.Event) (context.Context, func(observe.Event)) {
	return ctx, func(e observe.Event) {
		if e.Kind == observe.KindNotice {
			fmt.Fprintln(p.to, e.Activity, "notice", e.Notice)
			return
		}
		fmt.Fprintln(p.to, e.Activity, e.Outcome(), e.ErrorType())
		if e.Warning() != "" {
			fmt.Fprintln(p.to, e.Remedy())
		}
	}
}

// An Observer is listed in interceptor.Options.Observers.
func ExampleObserver() {
	var o observe.Observer = printer{os.Stdout}
	// What a guard does with it:
	_, end := o.Begin(context.Background(), observe.Event{Kind: observe.KindClaim, Activity: "ChargeCard"})
	end(observe.Event{Kind: observe.KindFail, Activity: "ChargeCard", Digest: "b4b653605d0cd823", Reason: once.InDoubt})
	_, end = o.Begin(context.Background(), observe.Event{Kind: observe.KindNotice, Activity: "ChargeCard"})
	end(observe.Event{Kind: observe.KindNotice, Activity: "ChargeCard", Notice: observe.OtherRun})
	// Output:
	// ChargeCard failed in_doubt
	// nobody knows whether the effect took place; find out at the callee, then settle it: temporal atmostonce show b4b653605d0cd823
	// ChargeCard notice other_run
}

// counter is an Observer that takes the guard's metrics, and counts its calls by what
// became of them.
type counter struct {
	printer
	mu    sync.Mutex
	calls map[string]int64
}

func (c *counter) Recorder() func(context.Context, observe.Measurement) {
	return func(_ context.Context, m observe.Measurement) {
		if m.Metric != observe.Calls {
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.calls[m.Values[3]] += m.Count // see Metrics for the labels
	}
}

// An Observer that is a Recorder, too, takes the metrics in place of Temporal's
// handler.
func ExampleRecorder() {
	c := &counter{calls: map[string]int64{}}
	var r observe.Recorder = c
	record := r.Recorder()
	// What a guard does with it:
	labels := [5]string{"shop", "payments", "ChargeCard", "executed"}
	record(context.Background(), observe.Measurement{Metric: observe.Calls, Values: labels, Count: 1})
	record(context.Background(), observe.Measurement{Metric: observe.StoreDuration, Duration: time.Millisecond})
	fmt.Println(c.calls)
	// Output: map[executed:1]
}

// Whoever registers instruments beforehand, or writes alerts, finds all names here.
func ExampleMetrics() {
	for _, m := range observe.Metrics()[:2] {
		var labels []string
		for _, l := range m.Labels {
			labels = append(labels, l.Name)
		}
		fmt.Println(m.Name, m.Unit, strings.Join(labels, " "))
	}
	// Output:
	// atmostonce.calls {call} namespace task_queue activity_type atmostonce.outcome error.type
	// atmostonce.notices {notice} namespace task_queue activity_type atmostonce.notice error.type
}
