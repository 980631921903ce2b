package main

import (
	"fmt"
	"strings"
)

// oursCrashed is the row of crashes that stands for ours.
const oursCrashed = "**atmostonce, Redis, Hold**"

// goal is a bound on a figure.
type goal struct {
	title             string
	table, name, what string
	of                func(result) float64
	bound             float64
	least             bool   // the figure should be the bound at least, and not at most
	unit              string // after the number
	why               string // it is not met
}

func median(x result) float64 { return x.Median }
func ratio(x result) float64  { return x.Ratio }
func over(x result) float64   { return x.Over }
func p10(x result) float64    { return x.P10 }
func p99(x result) float64    { return x.P99 }

// Why goals are missed.
const (
	whyRedis     = "a script works for longer than plain commands do"
	whyCrowd     = "Redis' one thread is what limits a crowd, and it works for longer on our scripts than on plain commands"
	whyLook      = "one `GET` and three looks at the expiry and the clock, so that a lease is never judged by a clock of ours"
	whyGuard     = "what is left is the claim, its lease, the body's context and the encoding of the outcome; the hand-off to a goroutine is gone"
	whyReplay    = "the key is made, the outcome decoded and the call counted"
	whySpans     = "a span is begun and ended in a goroutine of its own, so that one that hangs holds up nobody; the goroutines are used again"
	whyWaiting   = "a notice was late, and the poll is every second"
	whyStack     = "the call's frames need more than 8 kB of stack, and Go doubles it; the rest is the call itself, its claim, its report and the body's context"
	whyRunning   = "a call has a goroutine of its own again"
	whyFile      = "the claim and the outcome are made durable one after the other"
	whyNames     = "it names the workflow, the run, the worker and the key in plain text; the row above has what it takes without them"
	whyNoise     = "for what is noise, see *unguarded, again*"
	whyCache     = "the larger store is in no cache of the processor"
	whyDuplicate = "a fault: report it"
)

var goals = []goal{
	{"first run on Redis, 1 at once", "redis-first", ours, "1 at once", ratio, 1.35, false, " × floor", whyRedis},
	{"first run on Redis, 64 at once", "redis-first", ours, "64 at once", ratio, 1, false, " × floor", whyCrowd},
	{"duplicate on Redis, 1 at once", "redis-duplicate", ours, "1 at once", ratio, 1.25, false, " × floor", whyRedis},
	{"duplicate on Redis, 64 at once", "redis-duplicate", ours, "64 at once", ratio, 1, false, " × floor", whyCrowd},
	{"Redis works for a first run, p10", "redis-first", ours, "Redis works", p10, 20, false, " µs", whyRedis},
	{"Redis works for a duplicate, p10", "redis-duplicate", ours, "Redis works", p10, 2, false, " µs", whyLook},
	{"activity, memory, first run, over the SDK", "activity-first", "guarded, memory", "1 at once", over, 10, false, " µs", whyGuard},
	{"activity, memory, first run: allocations over the SDK", "activity-first", "guarded, memory", "allocations", over, 35, false, "", whyGuard},
	{"activity, memory, duplicate, over the SDK", "activity-duplicate", "guarded, memory", "1 at once", over, 4, false, " µs", whyReplay},
	{"activity, memory, duplicate: allocations over the SDK", "activity-duplicate", "guarded, memory", "allocations", over, 15, false, "", whyReplay},
	{"sampled spans, duplicate, over the same without", "activity-duplicate", "guarded, memory, sampled spans", "1 at once", over, 15, false, " µs", whySpans},
	{"waiter in memory, p50", "waiters", "memory", "1 waiter", median, 5, false, " ms", whyWaiting},
	{"waiter on Redis, p50", "waiters", "Redis", "1 waiter", median, 5, false, " ms", whyWaiting},
	{"waiter on files, p50", "waiters", "file", "1 waiter", median, 50, false, " ms", whyWaiting},
	{"1,000 waiters in memory, p99", "waiters", "memory", "1,000 waiters", p99, 50, false, " ms", whyWaiting},
	{"1,000 waiters on Redis, p99", "waiters", "Redis", "1,000 waiters", p99, 50, false, " ms", whyWaiting},
	{"1,000 waiters on files, p99", "waiters", "file", "1,000 waiters", p99, 50, false, " ms", whyWaiting},
	{"running call, heap and stack over the SDK", "running", "guarded, Redis", "heap and stack", over, 2048, false, " B", whyStack},
	{"running call, goroutines over the SDK", "running", "guarded, Redis", "goroutines", over, 0.01, false, "", whyRunning},
	{"10,000 running calls, idle", "running", "guarded, Redis", "idle CPU", median, 1, false, " % of a core", whyRunning},
	{"settled record in Redis, outcome of 58 B", "bytes", "Redis", "bytes", median, 500, false, " B", whyNames},
	{"first run on files, 1 at once", "file-first", ours, "1 at once", ratio, 1, false, " × floor", whyFile},
	{"first run on files, 64 at once (four times what a file for each record gave)", "file-first", ours, "64 at once", ratio, 0.39, false, " × floor", whyFile},
	{"settled record on files", "bytes", "file", "bytes", median, 4096, false, " B", whyFile},
	{"100,000 records in memory, first run", "scale", "memory, 100,000", "first run", ratio, 1.2, false, " × 1,000", whyCache},
	{"100,000 records in memory, duplicate", "scale", "memory, 100,000", "duplicate", ratio, 1.2, false, " × 1,000", whyCache},
	{"100,000 records in Redis, first run", "scale", "Redis, 100,000", "first run", ratio, 1.2, false, " × 1,000", whyCache},
	{"100,000 records in Redis, duplicate", "scale", "Redis, 100,000", "duplicate", ratio, 1.2, false, " × 1,000", whyCache},
	{"100,000 records in files, first run", "scale", "file, 100,000", "first run", ratio, 1.2, false, " × 1,000", whyCache},
	{"100,000 records in files, duplicate", "scale", "file, 100,000", "duplicate", ratio, 1.2, false, " × 1,000", whyCache},
	{"real server, Redis", "server", "guarded, Redis", "workflows", ratio, 0.97, true, " × unguarded", whyNoise},
	{"real server, Redis, sampled spans", "server", "guarded, Redis, sampled spans", "workflows", ratio, 0.97, true, " × unguarded", whyNoise},
	{"real server, files", "server", "guarded, file", "workflows", ratio, 0.97, true, " × unguarded", whyFile},
	{"duplicate effects after crashes, Redis", "crash", oursCrashed, "duplicate effects", median, 0, false, " of 1,000", whyDuplicate},
}

// write writes the goal's row: what was measured, and whether that is enough.
func (g goal) write(b *strings.Builder, r *report) {
	sign := "≤"
	if g.least {
		sign = "≥"
	}
	measured, verdict := "–", "not measured in this run"
	if x, found := r.find(g.table, g.name, g.what); found {
		is := g.of(x)
		measured, verdict = show(is)+g.unit, "met"
		if g.least && is < g.bound || !g.least && is > g.bound {
			verdict = "**missed**: " + g.why
		}
	}
	fmt.Fprintf(b, "| %s: %s %s%s | %s | %s |\n", g.title, sign, show(g.bound), g.unit, measured, verdict)
}
