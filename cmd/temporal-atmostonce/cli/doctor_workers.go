package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/worker/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/atmostonce/atmostonce/internal/ops"
	"github.com/atmostonce/atmostonce/observe"
)

// guardName is under what a guard reports itself in worker heartbeats.
const guardName = "atmostonce"

// checkWorkers looks for workers without the guard, by their heartbeats.
func (d *doctor) checkWorkers(ctx context.Context) {
	c, err := d.temporal(ctx, false)
	switch {
	case err != nil:
		d.say(unknown, "workers", "%v", err)
		return
	case c == nil:
		d.say(unknown, "workers", "not looked at: give --address")
		return
	}
	p, err := d.temporalProfile()
	if err != nil {
		d.say(unknown, "workers", "%v", err)
		return
	}
	if p.Namespace == "" {
		p.Namespace = "default"
	}
	req := &workflowservice.ListWorkersRequest{Namespace: p.Namespace, PageSize: 200}
	if d.queue != "" {
		req.Query = fmt.Sprintf("TaskQueue=%q", d.queue)
	}
	guarded, versions := 0, map[string]int{}
	for more := true; more; more = len(req.NextPageToken) > 0 {
		asking, cancel := context.WithTimeout(ctx, temporalTime)
		page, err := c.WorkflowService().ListWorkers(asking, req)
		cancel()
		if err != nil {
			d.say(unknown, "workers", "Temporal does not list them: %v", err)
			return
		}
		for _, w := range workersOf(page) {
			version, has := "", false
			for _, plugin := range w.GetPlugins() {
				if plugin.GetName() == guardName {
					version, has = plugin.GetVersion(), true
				}
			}
			if !has {
				d.say(warning, "workers", "%s of task queue %s has no guard", ops.Text(w.GetWorkerIdentity(), ops.Short), ops.Text(w.GetTaskQueue(), ops.Short))
				continue
			}
			guarded++
			versions[version]++
		}
		req.NextPageToken = page.GetNextPageToken()
	}
	if len(versions) > 1 {
		var all []string
		for version, n := range versions {
			all = append(all, fmt.Sprintf("%d have %s", n, version))
		}
		slices.Sort(all)
		d.say(warning, "workers", "the guards differ: %s", strings.Join(all, ", "))
	}
	d.say(fine, "workers", "%d have the guard; this tool is %s", guarded, observe.Version)
}

// beating is a worker as either form of the list has it.
type beating interface {
	GetWorkerIdentity() string
	GetTaskQueue() string
	GetPlugins() []*worker.PluginInfo
	GetStatus() enums.WorkerStatus
}

// workersOf returns the workers of a page that have not stopped. Servers before 1.30 list
// them by their heartbeats only.
func workersOf(page *workflowservice.ListWorkersResponse) (all []beating) {
	for _, w := range page.GetWorkers() {
		all = append(all, w)
	}
	if len(all) == 0 {
		for _, w := range page.GetWorkersInfo() { //nolint:staticcheck // of older servers
			all = append(all, w.GetWorkerHeartbeat())
		}
	}
	return slices.DeleteFunc(all, func(w beating) bool { return w.GetStatus() == enums.WORKER_STATUS_SHUTDOWN })
}
