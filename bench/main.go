// Command bench measures what the guard costs, beside bare commands and beside its
// peers, in one run in which all take turns. It writes BENCHMARKS.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"time"
)

// Where the harness, which runs in its own folder, reads and writes.
const (
	resultsFile = "results.jsonl" // committed; the page is written from it
	rawFolder   = "raw"           // each sample of the last run
	pageFile    = "../BENCHMARKS.md"
	pictureFile = "../docs/pictures/benchmarks.svg"
	cacheFolder = "../.cache"
)

// family is what is measured together.
type family struct {
	name string
	run  func(context.Context, *lab) error
}

var families = []family{
	{"redis", measureRedis},
	{"guard", measureGuard},
	{"file", measureFile},
	{"bytes", measureBytes},
	{"waiters", measureWaiters},
	{"running", measureRunning},
	{"scale", measureScale},
	{"server", measureServer},
	{"crash", measureCrashes},
}

func main() {
	if role := os.Getenv(doomedVariable); role != "" {
		fmt.Fprintln(os.Stderr, beDoomed(role))
		os.Exit(1)
	}
	quick := flag.Bool("quick", false, "a tenth of the rounds, in two minutes: for a first look")
	large := flag.Bool("large", false, "stores of a million records, too")
	kills := flag.Int("kills", 200, "how many processes are killed under each scheme")
	only := flag.String("only", "", "measure the families that match this `regexp`, print their tables, and write nothing")
	render := flag.Bool("render", false, "measure nothing: write the page from "+resultsFile)
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, settings{effort: 1, kills: *kills, large: *large, raw: rawFolder}, *quick, *only, *render)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings, quick bool, only string, render bool) error {
	if quick {
		s.effort, s.kills = 0.1, min(s.kills, 40)
	}
	wanted, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	if render {
		report, err := readReport(resultsFile)
		if err != nil {
			return err
		}
		return writePage(report)
	}
	if !slices.ContainsFunc(families, func(f family) bool { return wanted.MatchString(f.name) }) {
		return fmt.Errorf("no family matches %q", only)
	}
	l, err := newLab(ctx, s)
	if err != nil {
		return err
	}
	defer l.close()
	for i, f := range families {
		if !wanted.MatchString(f.name) {
			continue
		}
		l.say("[%d/%d] %s", i+1, len(families), f.name)
		if err := f.run(ctx, l); err != nil {
			return fmt.Errorf("%s: %w", f.name, errors.Join(err, context.Cause(ctx)))
		}
	}
	l.report.Machine.finish()
	if only != "" {
		fmt.Fprint(os.Stdout, l.report.tables())
		return nil
	}
	if err := l.report.write(resultsFile); err != nil {
		return err
	}
	if err := writePage(l.report); err != nil {
		return err
	}
	l.say("wrote %s, %s and %s", filepath.Base(pageFile), filepath.Base(pictureFile), resultsFile)
	return nil
}

// settings say how much is measured.
type settings struct {
	effort float64 // part of the rounds; 0 is two rounds of each
	kills  int
	large  bool
	raw    string // folder for each sample
}

// rounds is how many rounds there are of what has n in a full run.
func (s settings) rounds(n int) int { return max(2, int(float64(n)*s.effort)) }

// batch is how many calls are measured together where n are in any run but the shortest.
func (s settings) batch(n int) int {
	if s.effort == 0 {
		return 1
	}
	return n
}

// size is how large something is that is n in a full run, and least at the least.
func (s settings) size(n, least int) int { return max(least, int(float64(n)*s.effort)) }

func since(start time.Time) float64 { return float64(time.Since(start)) / float64(time.Microsecond) }
