package main

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/keys"
	"github.com/atmostonce/atmostonce/store"
)

// aged shows what was planted as if it had happened up to hours ago.
type aged struct{ store.Store }

func (a aged) Load(ctx context.Context, key string) (store.Record, error) {
	r, err := a.Store.Load(ctx, key)
	return age(r), err
}

func (a aged) List(ctx context.Context, q store.Query) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		q.After = store.Record{} // whose times are others; the tests have one page
		for r, err := range a.Store.List(ctx, q) {
			if !yield(age(r), err) {
				return
			}
		}
	}
}

func age(r store.Record) store.Record {
	var n int
	_, _ = fmt.Sscanf(r.Info.Holder.WorkflowID, "order-%d", &n)
	by := time.Duration(1100-n) * 97 * time.Second
	if r.State == store.Running {
		by = time.Duration(1010-n) * 8 * time.Second
	}
	for _, t := range []*time.Time{&r.Claimed, &r.Deadline, &r.Doubted, &r.Settled, &r.LeaseEnd} {
		if !t.IsZero() {
			*t = t.Add(-by)
		}
	}
	r.Claimed = r.Claimed.Add(-3 * time.Second)
	return r
}

// startPage serves the sample's page over what it plants.
func startPage(t *testing.T, s store.Store) string {
	t.Helper()
	require.NoError(t, plant(t.Context(), s))
	handler, err := newPage(aged{s}, "ann@example.com")
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle("/atmostonce/", handler)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL + "/atmostonce/"
}

// pagesOf are the addresses of the pages that are looked at, by name.
func pagesOf(base string) map[string]string {
	doubt := base + keys.Downstream("v1/shop/w:order-1001/ChargeCard/k:order-1001")
	done := base + keys.Downstream("v1/shop/w:order-1009/ChargeCard/k:order-1009")
	return map[string]string{
		"list": base, "settled": base + "?state=settled", "filtered": base + "?activity=ChargeCard&workflow=order-1001",
		"record": doubt, "confirm-done": doubt + "?decide=done", "confirm-not-done": doubt + "?decide=not_done", "record-done": done,
		"missing": base + strings.Repeat("0", 64),
	}
}

func TestPictures(t *testing.T) {
	b := newBrowser(t)
	for name, url := range pagesOf(startPage(t, store.NewMemory(store.MemoryOptions{}))) {
		for _, width := range []int64{desktop, phone} {
			for _, dark := range []bool{false, true} {
				b.open(t, url, width, dark)
				png := b.picture(t)
				if dir := os.Getenv("LOOK"); dir != "" {
					require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%d-%v.png", name, width, dark)), png, 0o644))
				}
			}
		}
	}
	_ = chromedp.Location
}
