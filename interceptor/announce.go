package interceptor

import (
	"fmt"
	"strings"

	"go.temporal.io/sdk/log"
)

// announce logs, once for a worker, which of its activities are guarded and how:
// when it starts, or where the client's logger is not known, at the first guarded
// call. Mode and the logger are others' code.
func (w *workerGuard) announce(logger log.Logger) {
	if logger == nil || w.types.options == nil || !w.types.any() || !w.announced.CompareAndSwap(false, true) {
		return
	}
	defer func() { _ = recover() }()
	guarded, others := w.types.coverage()
	logger.Info("atmostonce: worker starts", "TaskQueue", w.queue, "Store", w.guard.engine.Kind(),
		"Guarded", brief(guarded), "NotGuarded", brief(others))
}

// briefly bounds what one log line says of many activities, in bytes.
const briefly = 2000

func brief(list []string) string {
	var b strings.Builder
	for i, item := range list {
		if b.Len()+len(item) > briefly {
			fmt.Fprintf(&b, " and %d more", len(list)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(item)
	}
	return strings.TrimSpace(b.String())
}
