package main

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(doomedVariable); role != "" {
		fmt.Fprintln(os.Stderr, beDoomed(role))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// Two rounds of everything: what is measured is measured, and nothing is left behind.
func TestFamilies_MeasureEverything(t *testing.T) {
	t.Parallel()
	l, err := newLab(t.Context(), settings{kills: 1, raw: t.TempDir()})
	require.NoError(t, err)
	defer l.close()
	l.progress = t.Output()
	require.NoError(t, together(len(families), func(i int) error { // figures do not matter here
		err := families[i].run(t.Context(), l)
		l.say("%s has ended", families[i].name)
		return err
	}))
	l.report.Machine.finish()

	page := l.report.page()
	for _, table := range tables {
		require.Contains(t, page, "## "+table.title)
		for _, c := range table.columns {
			require.True(t, slices.ContainsFunc(l.report.Results, func(x result) bool {
				return x.Table == table.id && x.What == c.what
			}), "%s has no %s", table.id, c.what)
		}
	}
	for _, s := range crashSchemes {
		x, found := l.report.find("crash", s.name, "duplicate effects")
		require.True(t, found, s.name)
		require.Equal(t, strings.HasPrefix(s.name, "**"), x.Median == 0, "%s: %v duplicates", s.name, x.Median)
	}
	x, _ := l.report.find("redis-first", "by hand: `GET`, `SET NX`, `SET`, `DEL`", "round trips")
	require.InDelta(t, 4, x.Median, 0)
	x, _ = l.report.find("redis-duplicate", "floor: `GET`", "commands")
	require.InDelta(t, 1, x.Median, 0)

	l.close()
	require.NoDirExists(t, l.dir)
	require.NotNil(t, l.redis.cmd.ProcessState, "Redis runs on")
}

func TestInterrupt_LeavesNothingBehind(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	l, err := newLab(ctx, settings{kills: 4, raw: t.TempDir()})
	require.NoError(t, err)
	defer l.close()
	l.progress = t.Output()
	time.AfterFunc(300*time.Millisecond, cancel)
	require.ErrorIs(t, measureCrashes(ctx, l), context.Canceled)
	l.close()
	require.NoDirExists(t, l.dir)
	require.NotNil(t, l.redis.cmd.ProcessState, "Redis runs on")
}

// Nobody changes a figure by hand; make bench, or bench -render, writes the page anew.
func TestPage_IsWrittenFromTheResults(t *testing.T) {
	t.Parallel()
	r, err := readReport(resultsFile)
	require.NoError(t, err)
	for path, text := range map[string]string{pageFile: r.page(), pictureFile: r.picture()} {
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, text, string(content), "%s is not up to date; to write it anew: go run . -render", path)
	}
}

func TestGoals_AreOnThePage(t *testing.T) {
	t.Parallel()
	r, err := readReport(resultsFile)
	require.NoError(t, err)
	for _, g := range goals {
		_, found := r.find(g.table, g.name, g.what)
		require.True(t, found, "%s: no %s of %s in %s", g.title, g.what, g.name, g.table)
	}
}

func TestGoal_SaysWhetherItIsMet(t *testing.T) {
	t.Parallel()
	r := &report{Results: []result{{Table: "t", Case: "c", What: "w", Median: 3, Ratio: 0.9}}}
	for text, g := range map[string]goal{
		"| a: ≤ 3 µs | 3 µs | met |":                  {"a", "t", "c", "w", median, 3, false, " µs", "why"},
		"| a: ≤ 2.9 µs | 3 µs | **missed**: why |":    {"a", "t", "c", "w", median, 2.9, false, " µs", "why"},
		"| a: ≥ 0.9 × | 0.9 × | met |":                {"a", "t", "c", "w", ratio, 0.9, true, " ×", "why"},
		"| a: ≥ 0.97 × | 0.9 × | **missed**: why |":   {"a", "t", "c", "w", ratio, 0.97, true, " ×", "why"},
		"| a: ≤ 1 B | – | not measured in this run |": {"a", "t", "another", "w", median, 1, false, " B", "why"},
	} {
		var b strings.Builder
		g.write(&b, r)
		require.Equal(t, text+"\n", b.String())
	}
}

func TestPair_ComparesWithinARound(t *testing.T) {
	t.Parallel()
	base := []float64{1, 10, 100} // the machine gets busier
	ours := []float64{2, 20, 200}
	r := newResult("t", "c", "w", "µs", ours)
	r.pair(ours, base)
	require.Equal(t, result{
		Table: "t", Case: "c", What: "w", Unit: "µs", N: 3, Median: 20, P10: 2, P90: 200, Ratio: 2, Q1: 2, Q3: 2, Over: 10,
	}, r)
}

func TestPicture_IsXML(t *testing.T) {
	t.Parallel()
	r := &report{Results: []result{
		{Table: "redis-first", Case: "floor: `SET NX` & <more>", What: "1 at once"},
		{Table: "redis-first", Case: ours, What: "1 at once", Ratio: 1.83},
	}}
	d := xml.NewDecoder(strings.NewReader(r.picture()))
	var texts []string
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if text, ok := token.(xml.CharData); ok {
			texts = append(texts, string(text))
		}
	}
	require.Contains(t, texts, "floor: SET NX & <more>")
	require.Contains(t, texts, "1.83 ×")
}
