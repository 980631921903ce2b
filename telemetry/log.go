package telemetry

import (
	"cmp"
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/log"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/atmostonce/atmostonce/observe"
)

type logEvent struct {
	name     string
	severity log.Severity
}

// logEvents are the notices of weight, and in_doubt.
var logEvents = map[observe.Notice]logEvent{
	observe.InDoubt:       {"atmostonce.record.in_doubt", log.SeverityError},
	observe.Conflict:      {"atmostonce.record.conflict", log.SeverityError},
	observe.Resolved:      {"atmostonce.record.resolved", log.SeverityInfo},
	observe.Erased:        {"atmostonce.record.erased", log.SeverityInfo},
	observe.SettleFailed:  {"atmostonce.record.settle_failed", log.SeverityWarn},
	observe.LeaseLost:     {"atmostonce.lease.lost", log.SeverityWarn},
	observe.StoreLost:     {"atmostonce.store.lost", log.SeverityError},
	observe.StoreForgot:   {"atmostonce.store.forgot", log.SeverityError},
	observe.StoreReplaced: {"atmostonce.store.replaced", log.SeverityWarn},
	observe.StoreUnsafe:   {"atmostonce.store.unsafe", log.SeverityError},
	observe.Observed:      {"atmostonce.call.observed", log.SeverityWarn},
	observe.OtherRun:      {"atmostonce.call.other_run", log.SeverityWarn},
	observe.SameRun:       {"atmostonce.call.same_run", log.SeverityWarn},
}

// log emits an event for a call that ended in doubt, and for each notice of
// weight. It leaves out the error, whose text may hold input.
func (o *OTel) log(ctx context.Context, e observe.Event) {
	what := cmp.Or(e.Warning(), e.Notice)
	event, weighty := logEvents[what]
	if o.logger == nil || !weighty || e.Repeated || !o.logger.Enabled(ctx, log.EnabledParameters{Severity: event.severity, EventName: event.name}) {
		return
	}
	var r log.Record
	r.SetEventName(event.name)
	r.SetTimestamp(time.Now())
	r.SetSeverity(event.severity)
	r.SetBody(attribute.StringValue(cmp.Or(e.Remedy(), "an operator has decided about the key")))
	r.AddAttributes(attribute.String("activity_type", e.Activity))
	if what == observe.Erased {
		r.AddAttributes(erasure(e)...)
		o.logger.Emit(ctx, r)
		return
	}
	if kind := e.ErrorType(); kind != "" && e.Kind == observe.KindNotice {
		r.AddAttributes(semconv.ErrorTypeKey.String(kind))
	}
	r.AddAttributes(identity(e)...)
	r.AddAttributes(original(e)...)
	o.logger.Emit(ctx, r)
}

// erasure is who had a record erased, and why: the record itself keeps that for a
// short time only.
func erasure(e observe.Event) []attribute.KeyValue {
	all := []attribute.KeyValue{digestKey.String(e.Digest)}
	if last := len(e.Record.History) - 1; last >= 0 {
		all = append(all, attribute.String("atmostonce.decision.by", e.Record.History[last].Who),
			attribute.String("atmostonce.decision.why", e.Record.History[last].Why))
	}
	return all
}
