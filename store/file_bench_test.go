//go:build linux || darwin

package store_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/storetest"
)

func BenchmarkFileStore(b *testing.B) {
	storetest.Benchmark(b, func(b *testing.B) store.Store { return openFile(b, b.TempDir()) })
}

// BenchmarkFile compares Acquire and Settle with two bare durable replaces of a
// file of the same size, in turn, in one directory.
func BenchmarkFile(b *testing.B) {
	dir := b.TempDir()
	f := openFile(b, dir)
	acquired(b, f, "size", "a")
	content, err := os.ReadFile(filesIn(b, dir, ".json")[0])
	require.NoError(b, err)
	var floor, ours []time.Duration
	for i := 0; b.Loop(); i++ {
		key := fmt.Sprintf("v1/default/order-%d/ChargeCard/1", i)
		bare := filepath.Join(dir, fmt.Sprintf("%02x", i%256), strings.ReplaceAll(key, "/", "-"))
		started := time.Now()
		for range 2 {
			replaceDurably(b, bare, content)
		}
		floor = append(floor, time.Since(started))
		started = time.Now()
		claim := fileBid(key, "a")
		if r, err := f.Acquire(b.Context(), claim); err != nil || !r.Owned("a") {
			b.Fatal(r.State, err)
		}
		if _, err := f.Settle(b.Context(), claim, success); err != nil {
			b.Fatal(err)
		}
		ours = append(ours, time.Since(started))
	}
	slices.Sort(floor)
	slices.Sort(ours)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(floor[len(floor)/2].Nanoseconds()), "p50-floor-ns")
	b.ReportMetric(float64(ours[len(ours)/2].Nanoseconds()), "p50-ns")
	b.ReportMetric(float64(ours[len(ours)/2])/float64(floor[len(floor)/2]), "ratio")
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
	if err != nil {
		b.Fatal(err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err == nil {
		err = dir.Sync()
	}
	if err != nil {
		b.Fatal(err)
	}
	if err := dir.Close(); err != nil {
		b.Fatal(err)
	}
}
