package cli

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atmostonce/atmostonce/internal/ops"
	"github.com/atmostonce/atmostonce/store"
)

// scrapeTime bounds a count of the records.
const scrapeTime = 10 * time.Second

func newMetrics(t *tool) *cobra.Command {
	listen := ""
	cmd := &cobra.Command{
		Use: "metrics", Short: "Serve Prometheus metrics of what is in doubt, pending and running now", Args: cobra.NoArgs,
		Long: "Serves /metrics: how many records are in doubt, pending and running, by activity, and how old\nthe oldest is. They are counted at each scrape, so that a doubt whose call is never tried again\nis seen, too.",
		RunE: func(cmd *cobra.Command, _ []string) error { return t.serveMetrics(cmd.Context(), listen) },
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:9464", "address to listen at")
	return cmd
}

func (t *tool) serveMetrics(ctx context.Context, listen string) error {
	c, err := t.open(ctx)
	if err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), scrapeTime)
		defer cancel()
		stats, err := c.Stats(ctx)
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = w.Write([]byte(exposition(stats, err)))
	})
	t.note("Serving http://%s/metrics", l.Addr())
	return serve(ctx, l, mux)
}

// exposition writes counts in Prometheus's text format. An activity whose last record
// has left its state has no series.
func exposition(stats []store.Stat, err error) string {
	var b strings.Builder
	up := 1
	if err != nil {
		up = 0
	}
	fmt.Fprintf(&b, "# HELP atmostonce_store_up Whether all records could be counted.\n# TYPE atmostonce_store_up gauge\natmostonce_store_up %d\n", up)
	b.WriteString("# HELP atmostonce_records Records in an open state, now.\n# TYPE atmostonce_records gauge\n")
	for _, s := range stats {
		fmt.Fprintf(&b, "atmostonce_records{%s} %d\n", labels(s), s.Count)
	}
	b.WriteString("# HELP atmostonce_record_age_seconds How long the oldest of them has been in its state.\n# TYPE atmostonce_record_age_seconds gauge\n")
	for _, s := range stats {
		fmt.Fprintf(&b, "atmostonce_record_age_seconds{%s} %g\n", labels(s), max(0, s.Age.Seconds()))
	}
	return b.String()
}

func labels(s store.Stat) string {
	quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	return fmt.Sprintf(`namespace="%s",activity_type="%s",state="%s"`,
		quoted.Replace(ops.Text(s.Namespace, ops.Long)), quoted.Replace(ops.Text(s.Activity, ops.Long)), s.State)
}
