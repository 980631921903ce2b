package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/samples/internal/order"
	"github.com/atmostonce/atmostonce/samples/internal/provider"
)

// TestMain is a worker, too: the sagas run in processes of this program.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "worker" {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		err := run(ctx, os.Args[1:])
		stop()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const soon = time.Minute

// TestDashboard runs the sample, and looks at it as its user would.
func TestDashboard(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	dir := t.TempDir()
	s, err := open(ctx, dir, os.Stderr)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	prometheus := startPrometheus(t, s)
	traffic, err := newTraffic(ctx, s)
	require.NoError(t, err, "logs: %s", dir)
	// What is counted while nobody looks yet does not raise an alert.
	prometheus.await(t, `count(up == 1) >= 4`)
	rounds := 2
	if *pictures {
		rounds = 6
	}
	for range rounds {
		require.NoError(t, traffic.round(ctx))
	}

	t.Run("every story was told, and nobody was charged twice", func(t *testing.T) { requireStories(t, traffic, rounds) })
	t.Run("every panel has data in Prometheus", func(t *testing.T) { requirePanels(t, prometheus) })
	t.Run("the alert of a key in doubt fires, and ends when it is resolved", func(t *testing.T) {
		prometheus.await(t, `max_over_time(ALERTS{alertname="AtMostOnceInDoubt",alertstate="firing",activity_type="SendReceipt"}[15m])`)
		prometheus.await(t, `absent(ALERTS{alertname="AtMostOnceInDoubt",alertstate="firing"})`)
		prometheus.await(t, `sum(max by (activity_type) (atmostonce_records{atmostonce_state="in_doubt"})) == 0`)
		require.Empty(t, prometheus.query(t, `max_over_time(ALERTS{alertname=~"AtMostOnceCallsInDoubt|AtMostOnceConflict|AtMostOnceStoreForgot|AtMostOnceBypassed|AtMostOnceUncounted",alertstate="firing"}[15m])`))
	})
	b := newBrowser(t)
	t.Run("the dashboard in a browser", func(t *testing.T) { b.requireDashboard(t, s, prometheus) })
	t.Run("the link from a duplicate to its original", func(t *testing.T) { b.requireLink(t, s) })
	t.Run("a key in doubt in Temporal's web UI", func(t *testing.T) { b.requireDoubt(t, traffic) })
}

// requireStories requires that each story was played in each round, with its fault.
func requireStories(t *testing.T, traffic *traffic, rounds int) {
	t.Helper()
	told := map[story]int{outage: rounds}
	for _, s := range onceARound {
		told[s] += rounds
	}
	require.Equal(t, told, traffic.tolds)
	sofar, err := traffic.sofar()
	require.NoError(t, err)
	orders := 15 * rounds
	require.Equal(t, fmt.Sprintf("%d orders, %d charges, none twice", orders, orders), sofar)

	ledger, err := provider.ReadLedger(traffic.ledger)
	require.NoError(t, err)
	faults := map[provider.Kind]int{}
	for _, c := range ledger {
		faults[c.Fault]++
	}
	require.Equal(t, rounds, faults[provider.Hold], "killed")
	require.Equal(t, rounds, faults[provider.Drop], "lost answers")
	require.Equal(t, 4*rounds, faults[provider.Slow], "zombies, and orders that wait for one another")
	for round := 1; round <= rounds; round++ {
		run := traffic.client.GetWorkflow(t.Context(), fmt.Sprintf("order-%d-00", round), "")
		charging, err := order.ChargingOf(t.Context(), traffic.client, run)
		require.NoError(t, err)
		require.Greater(t, charging.Attempt, int32(1), "the order whose worker was killed was retried")
	}
}

func requirePanels(t *testing.T, p *promServer) {
	t.Helper()
	_, all, err := panels()
	require.NoError(t, err)
	expressions := 0
	for _, panel := range all {
		for _, target := range panel.Targets {
			expressions++
			values := p.query(t, "max_over_time(("+target.Expr+")[3m:1s])")
			require.True(t, slices.ContainsFunc(values, func(s sample) bool { return !math.IsNaN(s.Value) }), "%s: %s", panel.Title, target.Expr)
		}
	}
	require.Greater(t, expressions, 15)
}

func TestPage_AsksForEverything(t *testing.T) {
	t.Parallel()
	_, all, err := panels()
	require.NoError(t, err)
	for _, p := range all {
		for _, target := range p.Targets {
			require.NotContains(t, target.Expr, "$")
		}
	}
}

func TestAlerts_ComeInSeconds(t *testing.T) {
	t.Parallel()
	require.NotContains(t, string(alerts()), "> 300")
	require.Contains(t, string(alerts()), `atmostonce_record_age_seconds{atmostonce_state="in_doubt"}) > 6`+"\n")
}

func pictureFile(name string) string { return filepath.Join("..", "..", "docs", "pictures", name) }
