package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atmostonce/atmostonce/internal/ops"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/page"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

// headerTime bounds how long a browser may take to send the head of a request.
const headerTime = 10 * time.Second

func newUI(t *tool) *cobra.Command {
	listen, decides := "", false
	cmd := &cobra.Command{
		Use: "ui", Short: "Serve a page for browsers of this host, until it is interrupted", Args: cobra.NoArgs,
		Long: "Serves a page that shows what is in doubt, running and settled, and prints its URL. Only browsers\nof this host reach it, and only with that URL, which has a secret. It is read-only, unless\n--resolve lets it decide: as --operator, or as the user of the operating system.",
		RunE: func(cmd *cobra.Command, _ []string) error { return t.serveUI(cmd.Context(), listen, decides) },
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "address to listen at, of the loopback interface; port 0: a free one")
	cmd.Flags().BoolVar(&decides, "resolve", false, "let the page decide")
	return cmd
}

func (t *tool) serveUI(ctx context.Context, listen string, decides bool) error {
	if !isLoopback(listen) {
		return usage(errors.New("--listen is no address of the loopback interface, such as 127.0.0.1:8088: for others, mount package page behind what authenticates them"))
	}
	c, err := t.open(ctx)
	if err != nil {
		return err
	}
	o := page.Options{
		SettleDelay: t.delay, TraceURL: strings.ReplaceAll(t.profile.Trace, "{trace}", "{trace_id}"),
		Logger: slog.New(slog.NewTextHandler(t.err, &slog.HandlerOptions{Level: slog.LevelWarn})), // the audit log has the decisions
	}
	if t.profile.UI != "" {
		o.WorkflowURL = strings.TrimRight(t.profile.UI, "/") + "/namespaces/{namespace}/workflows/{workflow_id}/{run_id}/history"
	}
	if decides {
		log, err := t.openAudit()
		if err != nil {
			return err
		}
		defer log.close()
		by, err := t.operatorName()
		if err != nil {
			return err
		}
		g, err := t.guard()
		if err != nil {
			return err
		}
		o.Resolver, o.User = audited{g, log, t.note}, func(*http.Request) (string, error) { return by, nil }
	}
	p, err := page.New(c.Store, o)
	if err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}
	secret := "/" + rand.Text() // other users of this host can connect, too
	mux := http.NewServeMux()
	mux.Handle(secret+"/", http.StripPrefix(secret, p))
	t.note("Serving http://%s%s/", l.Addr(), secret)
	return serve(ctx, l, ofLoopback(mux))
}

// serve answers requests until the context ends.
func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{Handler: h, ReadHeaderTimeout: headerTime}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// ofLoopback refuses a request to a name that is not the loopback's: a site may have had
// its own name lead here, so that a browser takes this page for that site's.
func ofLoopback(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isLoopback(r.Host) {
			http.Error(w, "This page is at the address that the command has printed.", http.StatusMisdirectedRequest)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// isLoopback reports whether a host, with or without a port, is the loopback interface.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
	}
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// audited is a guard whose decisions are in the audit log.
type audited struct {
	Guard
	log  auditLog
	note func(format string, args ...any)
}

// Resolve implements page.Resolver.
func (a audited) Resolve(ctx context.Context, r store.Record, f resolve.Finding, d resolve.Decision) (store.Record, error) {
	now, err := a.Guard.Resolve(ctx, r, f, d)
	a.entry("resolve", r, now, d, err)
	return now, err
}

// Forget implements page.Resolver.
func (a audited) Forget(ctx context.Context, r store.Record, d resolve.Decision) (store.Record, error) {
	now, err := a.Guard.Forget(ctx, r, d)
	a.entry("forget", r, now, d, err)
	return now, err
}

// Policy says what the guard does by itself.
func (a audited) Policy(r store.Record) (once.Policy, bool) {
	p := ops.PolicyOf(a.Guard, r)
	return p, p != once.Policy{}
}

// entry writes a line of the audit log. That it cannot be kept changes nothing of the
// decision, and so nothing of what the page says of it.
func (a audited) entry(action string, r, now store.Record, d resolve.Decision, err error) {
	e := ops.NewEntry(action, r, now, d.By, d.Why)
	e.Force = d.Force
	if err != nil {
		e.To, e.Error = "", err.Error()
	}
	if unlogged := a.log.write(e); unlogged != nil {
		a.note("%s %s: %v", action, e.Digest, unlogged)
	}
}
