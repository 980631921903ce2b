package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// column is one or more columns of a table: a figure, and what it is beside the base.
type column struct {
	what                string
	spread, ratio, over bool
	p99                 bool
}

// table is a part of the page.
type table struct {
	id, title, text string
	columns         []column
}

var timeBesideFloor = []column{{what: "1 at once", spread: true, ratio: true}, {what: "64 at once", spread: true, ratio: true}}

var serverSide = []column{{what: "Redis works", spread: true, ratio: true}, {what: "commands"}, {what: "round trips"}}

var doorColumns = []column{{what: "1 at once", spread: true, over: true}, {what: "allocations", over: true}}

var functionColumns = slices.Insert(slices.Clone(doorColumns), 1, column{what: "64 at once", spread: true})

var tables = []table{
	{"redis-first", "A first run on Redis", "The claim and the outcome, with no effect between them. The values of the floor are as large as our record; the peers keep the " +
		"outcome only, and the rows of the two locks leave out the look whether it was done before: they are lower bounds. *Redis works* is what its one thread needs " +
		"inside the commands, each counted in whole microseconds; a busy machine interrupts it, so that the 10th percentile is the best estimate; *commands* counts those inside scripts. The last column is from [Crashes](#crashes).",
		slices.Concat(timeBesideFloor, serverSide)},
	{"redis-duplicate", "A duplicate on Redis", "The outcome is there, and is asked for. For all peers that is one `GET`.", slices.Concat(timeBesideFloor, serverSide)},
	{"activity-first", "A guarded activity: a first run", "In the SDK's test environment; *over* is over the SDK alone in the same round, or, with spans, over the same without.", doorColumns},
	{"activity-duplicate", "A guarded activity: a duplicate", "Another workflow has done it; here *the SDK alone* runs the body.", doorColumns},
	{"function-first", "A guarded function: a first run", "Without Temporal: `atmostonce.Func`.", functionColumns},
	{"function-duplicate", "A guarded function: a duplicate", "", functionColumns},
	{"file-first", "A first run on files", "A durable replace writes a file, fsyncs it, renames it and fsyncs the folder; the floor's are in 256 folders. The store has ten thousand records to begin with, so that its sweeps have a part.", timeBesideFloor},
	{"file-duplicate", "A duplicate on files", "", timeBesideFloor[:1]},
	{"waiters", "From the owner's return to the waiter's", "The owner works for two seconds; the waiters are activities under `OnDuplicate: Wait`, under another guard, on files and Redis with another handle of the store.",
		[]column{{what: "1 waiter", p99: true}, {what: "1,000 waiters", p99: true}}},
	{"running", "While calls run", "Activities whose bodies are at work; memory and goroutines for each; idle CPU of the worker's process, and commands of Redis, for all of them together.",
		[]column{{what: "heap and stack", over: true}, {what: "of it stack", over: true}, {what: "goroutines", over: true}, {what: "idle CPU"}, {what: "Redis commands"}}},
	{"bytes", "A settled record", "As the guard writes it, with an outcome of 58 bytes; of a file, what it takes of the disk.", []column{{what: "bytes"}, {what: "inodes"}}},
	{"scale", "Many records", "The ratio is to the smallest store of the kind.", []column{{what: "first run", spread: true, ratio: true}, {what: "duplicate", spread: true, ratio: true}}},
	{"server", "On a real Temporal server", "Workflows of three activities in turn, 16 at once, on the development server, which keeps its state in memory. The ratio is to unguarded in the same round: more is better. A round in which the server hands out its tasks late is slow for all rows alike, and its ratio says little: see how far apart the percentiles are.",
		[]column{{what: "workflows", spread: true, ratio: true}}},
	{"crash", "Crashes", "A process of its own takes the key, does the effect (a line in a file, fsynced), and is killed by SIGKILL at a random moment before it can write down so. Then the call is retried until there is an answer. Kills at other moments cause no duplicate under any of these schemes. " +
		"Locks and leases end after 0.4 s; a longer time puts the second effect off, and prevents none. Held means: nobody has looked yet whether it happened, and nothing runs until somebody has.",
		[]column{{what: "killed"}, {what: "duplicate effects"}, {what: "lost effects"}, {what: "held for a decision"}}},
}

// tables writes all tables that have figures.
func (r *report) tables() string {
	var b strings.Builder
	for _, t := range tables {
		r.table(&b, t)
	}
	return b.String()
}

func (r *report) table(b *strings.Builder, t table) {
	var names []string
	units := map[string]string{}
	n := map[int]bool{}
	for _, x := range r.Results {
		if x.Table != t.id {
			continue
		}
		if !slices.Contains(names, x.Case) {
			names = append(names, x.Case)
		}
		units[x.What] = x.Unit
		n[x.N] = true
	}
	if len(names) == 0 {
		return
	}
	fmt.Fprintf(b, "## %s\n\n", t.title)
	if t.text != "" {
		fmt.Fprintf(b, "%s\n\n", t.text)
	}
	head, line := "| |", "|---|"
	for _, c := range t.columns {
		for _, h := range c.heads(units[c.what]) {
			head, line = head+" "+h+" |", line+"--:|"
		}
	}
	if t.id == "redis-first" {
		head, line = head+" duplicate effects per 1,000 crashes |", line+"--:|"
	}
	fmt.Fprintf(b, "%s\n%s\n", head, line)
	for _, name := range names {
		fmt.Fprintf(b, "| %s |", name)
		for _, c := range t.columns {
			x, found := r.find(t.id, name, c.what)
			for _, cell := range c.cells(x, found) {
				fmt.Fprintf(b, " %s |", cell)
			}
		}
		if t.id == "redis-first" {
			crashed := name
			if name == ours {
				crashed = oursCrashed
			}
			x, found := r.find("crash", crashed, "duplicate effects")
			fmt.Fprintf(b, " %s |", column{}.cells(x, found)[0])
		}
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
}

func (c column) heads(unit string) []string {
	head := c.what
	if unit != "" {
		head += ", " + unit
	}
	if c.spread {
		head += " [p10–p90]"
	}
	heads := []string{head}
	if c.p99 {
		heads[0] += " p50"
		heads = append(heads, "p99")
	}
	if c.ratio {
		heads = append(heads, "× (quartiles)")
	}
	if c.over {
		heads = append(heads, "over")
	}
	return heads
}

func (c column) cells(x result, found bool) []string {
	none := "–"
	cells := []string{none}
	if found {
		cells[0] = show(x.Median)
		if c.spread {
			cells[0] += fmt.Sprintf(" [%s–%s]", show(x.P10), show(x.P90))
		}
	}
	add := func(there bool, text string) {
		if !there {
			text = none
		}
		cells = append(cells, text)
	}
	if c.p99 {
		add(found, show(x.P99))
	}
	if c.ratio {
		add(x.Ratio != 0, fmt.Sprintf("%.2f (%.2f–%.2f)", x.Ratio, x.Q1, x.Q3))
	}
	if c.over {
		sign := "+"
		if x.Over < 0 {
			sign = "−"
		}
		add(x.Ratio != 0 || x.Over != 0, sign+show(math.Abs(x.Over)))
	}
	return cells
}

// show writes three digits, and all of a larger number.
func show(x float64) string {
	if x >= 1000 {
		return counted(int(x))
	}
	return strconv.FormatFloat(x, 'g', 3, 64)
}

// page is the whole of BENCHMARKS.md.
func (r *report) page() string {
	var b strings.Builder
	m := r.Machine
	b.WriteString("# Benchmarks\n\n<!-- written by make bench; no figure here is written by hand -->\n\n" +
		"What the guard costs, beside bare commands and beside its peers. All were measured in one run, in which they took turns in a new order each round, so that what else the machine did met all of them. " +
		"A time is the median of the rounds, with its 10th and 90th percentile; × is the median of the ratios to the floor in the same round, with its quartiles. Less is better where nothing else is said.\n\n")
	if before, err := strconv.ParseFloat(m.Load[0], 64); err == nil && before > float64(m.Cores)/2 {
		fmt.Fprintf(&b, "**The machine was busy with other work**: its load average was %s when the run began, on %d cores. Times are longer than they need be, and goals may be missed for that.\n\n", m.Load[0], m.Cores)
	}
	fmt.Fprintf(&b, "![First runs on Redis beside the floor, and what comes of crashes](docs/pictures/%s)\n\n", filepath.Base(pictureFile))
	b.WriteString("## Goals\n\n| goal | measured | |\n|---|--:|---|\n")
	for _, g := range goals {
		g.write(&b, r)
	}
	b.WriteByte('\n')
	r.carries(&b)
	b.WriteString(r.tables())
	b.WriteString("## The machine\n\n| | |\n|---|---|\n")
	for _, line := range [][2]string{
		{"CPU", fmt.Sprintf("%s, %d cores, shared by everything here, Redis and the Temporal server included", m.CPU, m.Cores)},
		{"system", m.OS},
		{"Go", m.Go},
		{"Redis", m.Redis + ", on loopback, without persistence"},
		{"Temporal's server", m.Temporal},
		{"load average", fmt.Sprintf("%s at the start, %s at the end, in which the run itself has its part", m.Load[0], m.Load[1])},
		{"the run", fmt.Sprintf("%s, %d s, flags: `%s`", m.Date, m.Seconds, strings.TrimSpace("bench "+m.Flags))},
	} {
		fmt.Fprintf(&b, "| %s | %s |\n", line[0], line[1])
	}
	for _, path := range compared {
		fmt.Fprintf(&b, "| `%s` | %s |\n", path, m.Modules[path])
	}
	b.WriteString(notes)
	return b.String()
}

const notes = "\nA busy machine slows both sides down, and the ratios less; but one that idles adds its own wake-up to each round trip, which makes all ratios look better.\n\n" +
	"## What is not measured\n\n" +
	"- Networks: with half a millisecond to Redis, round trips are all that counts, and each ratio nears that of the round trips.\n" +
	"- Redis Cluster, Sentinel, replicas and persistence; what these cost is in the documentation of package redisstore.\n" +
	"- `faustbrian/go-idempotency` and other peers that the Go module proxy does not serve.\n" +
	"- Power loss; kills inside of a store's own writes, which the tests of the stores are about.\n" +
	"- Activities in a crowd without a server: the SDK's test environment runs one at a time. The crowds are of functions, of the stores, and of workflows on the server.\n" +
	"- The test environment runs the guard as an interceptor, so the tables of activities are without the wire that the plugin of a client captures; the table of the real server is with it.\n\n" +
	"## How to reproduce\n\n" +
	"```sh\nmake bench                              # all of it, in about a quarter of an hour; writes this page\nmake bench BENCH=\"-quick\"               # a tenth of the rounds\n" +
	"make bench BENCH=\"-only redis\"          # one family; prints its tables, and writes nothing\nmake bench BENCH=\"-large -kills 1000\"   # also a million records; more kills\n```\n\n" +
	"The families are " + "redis, guard, file, bytes, waiters, running, scale, server and crash" + ". Each sample of the last run is in `bench/raw`, and what this page is made of in [bench/results.jsonl](bench/results.jsonl).\n"

// carries says what one Redis carries.
func (r *report) carries(b *strings.Builder) {
	first, one := r.find("redis-first", ours, "Redis works")
	duplicate, two := r.find("redis-duplicate", ours, "Redis works")
	if !one || !two {
		return
	}
	fmt.Fprintf(b, "**What one Redis carries.** Where nothing interrupts it, its one thread works %s µs inside the commands of a first run, and %s µs in those of a duplicate: at most 1 s / %s µs = %s first runs, or %s duplicates, in a second, "+
		"less what it needs to read and write its connections.\n\n",
		show(first.P10), show(duplicate.P10), show(first.P10), show(round(1e6/first.P10)), show(round(1e6/duplicate.P10)))
}

// writePage writes the page and its picture.
func writePage(r *report) error {
	return errors.Join(os.WriteFile(pageFile, []byte(r.page()), 0o644), os.WriteFile(pictureFile, []byte(r.picture()), 0o644))
}
