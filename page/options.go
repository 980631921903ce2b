package page

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/atmostonce/atmostonce/internal/ops"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

// Resolver writes what an operator decides. Both guards are one: interceptor.Guard for
// activities, and atmostonce.Guard for functions.
type Resolver interface {
	Resolve(ctx context.Context, r store.Record, f resolve.Finding, d resolve.Decision) (store.Record, error)
	Forget(ctx context.Context, r store.Record, d resolve.Decision) (store.Record, error)
}

// Options are the options of New. The zero value is usable: it shows what is there,
// links to nothing, and changes nothing.
type Options struct {
	// Title is what the page calls itself: say which environment it shows. Defaults to
	// "At most once".
	Title string

	// Resolver writes the decisions that are made on the page. Defaults to none: the page
	// is read-only.
	Resolver Resolver
	// User returns who sends a request, as your authentication in front of the page has
	// found it: it is kept in the record as who decided. An error, or an empty name,
	// refuses the decision. Required with a Resolver.
	User func(*http.Request) (string, error)

	// WorkflowURL is where Temporal's UI has a workflow, for instance
	// "https://temporal.example/namespaces/{namespace}/workflows/{workflow_id}/{run_id}".
	// The values are escaped. Defaults to none: no links.
	WorkflowURL string
	// TraceURL is where a trace is shown, for instance
	// "https://traces.example/trace/{trace_id}". Defaults to none: no links.
	TraceURL string
	// Command begins the commands that the page shows for copying. Defaults to
	// "temporal atmostonce".
	Command string

	// SettleDelay is that of the guards, for saying until when the last owner of a key may
	// act. Defaults to theirs, 30 seconds.
	SettleDelay time.Duration
	// ShowKeys shows keys in plain text: they may hold what is confidential. Without it a
	// key is named by its digest only.
	ShowKeys bool
	// Timeout bounds how long a page waits for the store; then it shows what it has. A
	// decision may take three times as long. Defaults to 3 seconds.
	Timeout time.Duration
	// Logger gets the errors of the store, which the page does not show, and each
	// decision. Defaults to slog.Default().
	Logger *slog.Logger
}

// complete returns o with its defaults, and what is wrong with it.
func (o Options) complete() (Options, error) {
	if o.Title == "" {
		o.Title = "At most once"
	}
	if o.Command == "" {
		o.Command = ops.Command
	}
	if o.Timeout == 0 {
		o.Timeout = 3 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	var errs []error
	if (o.Resolver == nil) != (o.User == nil) {
		errs = append(errs, errors.New("Resolver and User need each other: a decision has an author"))
	}
	if o.Timeout < 0 || o.SettleDelay < 0 {
		errs = append(errs, errors.New("Timeout or SettleDelay is negative"))
	}
	if ops.Text(o.Command, len(o.Command)) != o.Command {
		errs = append(errs, fmt.Errorf("Command has characters that do not show: %q", o.Command))
	}
	return o, errors.Join(errs...)
}
