package engine

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRepeats_AreReportedAtGrowingIntervals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r repeats
		var at []time.Duration
		for began := time.Now(); time.Since(began) < 4*24*time.Hour; <-time.After(30 * time.Second) {
			if !r.repeat("a key") {
				at = append(at, time.Since(began))
			}
		}
		const hour = time.Hour
		require.Equal(t, []time.Duration{0, hour, 25 * hour, 49 * hour, 73 * hour}, at)
		<-time.After(2 * hour)
		require.False(t, r.repeat("a key"), "it had ended, and begins anew")
		<-time.After(hour)
		require.False(t, r.repeat("a key"))
	})
}

func TestRepeats_RememberWhatCameUpLast(t *testing.T) {
	t.Parallel()
	var r repeats
	r.repeat("a key")
	r.repeat("a type")
	for n := range 3 * maxReported {
		require.False(t, r.repeat(strconv.Itoa(n)))
		require.True(t, r.repeat("a type"), "it comes up all the time")
	}
	require.Len(t, r.all, maxReported)
	require.Equal(t, maxReported, r.recent.Len())
	require.False(t, r.repeat("a key"), "it is forgotten")
}
