//go:build linux || darwin

package store_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/storetest"
)

func BenchmarkFileStore(b *testing.B) {
	storetest.Benchmark(b, func(b *testing.B) store.Store { return openFile(b, b.TempDir()) })
}

// BenchmarkFile compares first runs, Acquire and Settle, and duplicates with the floor: two
// bare durable replaces of a file of the same size, and one read of it. They come in
// turns, so that other load on the machine meets all of them, in a store that already
// has many records, all of them written through it. (-benchtime 20x: so many turns.)
func BenchmarkFile(b *testing.B) {
	for _, records := range []int{1_000, 10_000, 100_000} {
		dir := b.TempDir()
		f := openFile(b, dir)
		first := benchKey.Load()
		fillFile(b, f, records)
		size, inodes := spaceOf(b, dir)
		for _, atOnce := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("%d/%d", records, atOnce), func(b *testing.B) {
				turns := fileTurns{b: b, f: f, first: first, bare: b.TempDir(), atOnce: atOnce}
				for b.Loop() {
					turns.take(&turns.floor, turns.replaceTwice)
					turns.take(&turns.ours, turns.firstRun)
					turns.take(&turns.read, turns.readBare)
					turns.take(&turns.again, turns.duplicate)
				}
				turns.report()
				b.ReportMetric(float64(size)/float64(records), "disk-B/record")
				b.ReportMetric(float64(inodes)/float64(records), "inodes/record")
			})
		}
	}
}

// BenchmarkFileList lists all of 100,000 settled records, and one by its digest.
func BenchmarkFileList(b *testing.B) {
	f := openFile(b, b.TempDir())
	fillFile(b, f, 100_000)
	for name, q := range map[string]store.Query{"all": {}, "digest": {Digest: "8254c329a92850f6d539dd37"}, "in doubt": {State: store.InDoubt}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				for _, err := range f.List(b.Context(), q) {
					require.NoError(b, err)
				}
			}
		})
	}
}

// BenchmarkFileScale is about what the number of records costs where the disk costs
// nothing: one call at a time, in memory. The sizes come in turns.
func BenchmarkFileScale(b *testing.B) {
	var all []*fileTurns
	for _, records := range []int{1_000, 10_000, 100_000, 1_000_000} {
		dir := memoryDir(b)
		heap := heapInUse()
		f := openFile(b, dir)
		first := benchKey.Load()
		fillFile(b, f, records)
		turns := &fileTurns{b: b, f: f, first: first, atOnce: 1, records: records, heap: heapInUse() - heap}
		started := time.Now()
		openFile(b, dir)
		turns.opened = time.Since(started)
		all = append(all, turns)
	}
	b.Run("turns", func(b *testing.B) {
		for b.Loop() {
			for _, turns := range all {
				for range 20 {
					turns.take(&turns.ours, turns.firstRun)
					turns.take(&turns.again, turns.duplicate)
				}
			}
		}
		for _, turns := range all {
			b.ReportMetric(ratio(turns.ours, all[0].ours), fmt.Sprintf("x-run-%d", turns.records))
			b.ReportMetric(ratio(turns.again, all[0].again), fmt.Sprintf("x-duplicate-%d", turns.records))
			b.ReportMetric(float64(turns.opened.Milliseconds()), fmt.Sprintf("open-ms-%d", turns.records))
			b.ReportMetric(float64(turns.heap)/float64(turns.records), fmt.Sprintf("heap-B/record-%d", turns.records))
		}
		b.ReportMetric(median(all[0].ours), "run-ns")
		b.ReportMetric(median(all[0].again), "duplicate-ns")
		b.ReportMetric(0, "ns/op")
	})
}

func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// fileInfo is what the guard writes of a claim.
var fileInfo = store.Info{
	Activity: "ChargeCard", Input: strings.Repeat("5d", 32), Match: strings.Repeat("5d", 32),
	Holder: store.Holder{
		Namespace: "default", WorkflowID: "order-123456", RunID: "0197f5a2-7b1c-7d2e-9f00-0123456789ab", ActivityID: "5",
		Scheduled: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Attempt: 1, Worker: "4711@worker-7f9c@payments",
		OriginalRunID: "0197f5a2-7b1c-7d2e-9f00-0123456789ab", Occurrence: 1,
	},
}

func benchBid(n int64) store.Bid {
	return store.Bid{
		Key: fmt.Sprintf("v1/default/order-%d/ChargeCard/1", n), Owner: fmt.Sprintf("%026d", n), Lease: time.Minute, TTL: 30 * 24 * time.Hour,
		Deadline: time.Minute, Began: true, Info: fileInfo,
	}
}

var benchOutcome = store.Outcome{
	State: store.Succeeded, Data: []byte(strings.Repeat("x", 58)),
	Context: `{"namespace":"default","workflow_id":"order-123456","workflow_type":"Checkout","activity_type":"ChargeCard","task_queue":"payments","encoding":"json/plain"}`,
}

var benchKey atomic.Int64

func fillFile(b *testing.B, f *store.File, records int) {
	b.Helper()
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			for range records / 64 {
				n := benchKey.Add(1)
				if _, err := f.Acquire(b.Context(), benchBid(n)); err != nil {
					b.Error(err)
				}
				if _, err := f.Settle(b.Context(), benchBid(n), benchOutcome); err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// spaceOf returns what is in a directory, and in how many files.
func spaceOf(b *testing.B, dir string) (size int64, inodes int) {
	b.Helper()
	require.NoError(b, filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += (info.Size() + 4095) / 4096 * 4096
			inodes++
		}
		return err
	}))
	return size, inodes
}

// fileTurns measures what it is given in turns.
type fileTurns struct {
	b      *testing.B
	f      *store.File
	first  int64 // of the keys that the store was filled with, and 900 more
	bare   string
	atOnce int

	records int
	heap    int64
	opened  time.Duration
	// Of each turn: how long one call took in the mean, and how long all did.
	floor, ours, read, again []time.Duration
}

const callsPerTurn = 8 // by each of those at once

// take has a call made by all at once, and notes the time of the turn.
func (t *fileTurns) take(to *[]time.Duration, call func(n int64)) {
	started := time.Now()
	var all sync.WaitGroup
	for range t.atOnce {
		all.Go(func() {
			for range callsPerTurn {
				call(benchKey.Add(1))
			}
		})
	}
	all.Wait()
	*to = append(*to, time.Since(started)/time.Duration(callsPerTurn*t.atOnce))
}

var bareContent = []byte(strings.Repeat("x", 1200))

func (t *fileTurns) replaceTwice(n int64) {
	for range 2 {
		replaceDurably(t.b, filepath.Join(t.bare, fmt.Sprint(n)), bareContent)
	}
}

func (t *fileTurns) firstRun(n int64) {
	if r, err := t.f.Acquire(t.b.Context(), benchBid(n)); err != nil || r.State != store.Running {
		t.b.Error(r.State, err)
	}
	if _, err := t.f.Settle(t.b.Context(), benchBid(n), benchOutcome); err != nil {
		t.b.Error(err)
	}
}

func (t *fileTurns) readBare(int64) {
	names, err := os.ReadFile(filepath.Join(t.bare, "read"))
	if os.IsNotExist(err) {
		err = os.WriteFile(filepath.Join(t.bare, "read"), bareContent, 0o600)
	}
	if err != nil {
		t.b.Error(names, err)
	}
}

func (t *fileTurns) duplicate(n int64) {
	bid := benchBid(t.first + n*7919%int64(max(t.records/64*64, 900)) + 1)
	bid.Owner = "another"
	if r, err := t.f.Acquire(t.b.Context(), bid); err != nil || r.State == store.Running {
		t.b.Error(r.State, err)
	}
}

func (t *fileTurns) report() {
	t.b.ReportMetric(0, "ns/op")
	t.b.ReportMetric(ratio(t.ours, t.floor), "x-floor")
	t.b.ReportMetric(ratio(t.again, t.read), "x-read")
	t.b.ReportMetric(1e9/median(t.ours), "runs/s")
	t.b.ReportMetric(1e9/median(t.floor), "floor/s")
	t.b.ReportMetric(median(t.again), "duplicate-ns")
}

func median(all []time.Duration) float64 {
	all = slices.Sorted(slices.Values(all))
	return float64(all[len(all)/2].Nanoseconds())
}

// ratio is the median of what each turn cost more than the one beside it.
func ratio(ours, floor []time.Duration) float64 {
	var all []float64
	for i := range ours {
		all = append(all, float64(ours[i])/float64(floor[i]))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func replaceDurably(b *testing.B, path string, content []byte) {
	b.Helper()
	file, err := os.OpenFile(path+".bare", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		_, err = file.Write(content)
	}
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = file.Close()
	}
	if err == nil {
		err = os.Rename(path+".bare", path)
	}
	var dir *os.File
	if err == nil {
		dir, err = os.Open(filepath.Dir(path))
	}
	if err == nil {
		err = dir.Sync()
		_ = dir.Close()
	}
	if err != nil {
		b.Error(err)
	}
}
