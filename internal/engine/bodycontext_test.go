package engine

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/once"
)

// agesBy are the ways in which a moment can lie in the past by one clock or both.
func agesBy(d time.Duration) map[string]func(i instant) instant {
	return map[string]func(i instant) instant{
		"the process was stopped": func(i instant) instant { return instant{i.monotonic.Add(-d), i.wall.Add(-d)} },
		"the machine slept":       func(i instant) instant { return instant{i.monotonic, i.wall.Add(-d)} },
		"the clock was set back":  func(i instant) instant { return instant{i.monotonic.Add(-d), i.wall} },
	}
}

// claimed is the context of a body that began just now.
func claimed(ctx context.Context) *bodyContext {
	b := &bodyContext{}
	b.start(once.NewContext(ctx, once.Claim{Key: "k"}), time.Now(), time.Minute)
	return b
}

func TestInstant_TheClockThatWentFurtherCounts(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, age := range agesBy(time.Hour) {
		require.Equal(t, time.Hour, age(newInstant(now)).age(now), name)
	}
}

func TestBodyContext_JudgesTheLeaseWhenItIsAsked(t *testing.T) {
	t.Parallel()
	for what, look := range map[string]func(ctx context.Context) bool{
		"Err":      func(ctx context.Context) bool { return ctx.Err() != nil },
		"Cause":    func(ctx context.Context) bool { return context.Cause(ctx) == errLeaseOver }, //nolint:errorlint // it is that one
		"Deadline": func(ctx context.Context) bool { d, ok := ctx.Deadline(); return ok && time.Until(d) <= 0 },
		"Done": func(ctx context.Context) bool {
			select {
			case <-ctx.Done():
				return true
			default:
				return false
			}
		},
		"Value": func(ctx context.Context) bool {
			return ctx.Value("any") == nil && ctx.(*bodyContext).Context.Err() != nil
		},
		"Lost": func(ctx context.Context) bool { claim, ok := once.FromContext(ctx); return ok && claim.Lost },
		"Key":  func(ctx context.Context) bool { return once.Key(ctx) == "k" && ctx.Err() != nil },
		"a value of a derived context": func(ctx context.Context) bool {
			derived, cancel := context.WithTimeout(ctx, time.Hour)
			defer cancel()
			return derived.Value("any") == nil && derived.Err() != nil
		},
		"a derived context": func(ctx context.Context) bool {
			derived, cancel := context.WithCancel(ctx)
			defer cancel()
			return derived.Err() != nil
		},
	} {
		for name, age := range agesBy(time.Minute) {
			ctx := claimed(t.Context())
			require.False(t, look(ctx), "%s: held", what)
			past := age(*ctx.alive.Load())
			ctx.alive.Store(&past)
			require.True(t, look(ctx), "%s: %s", what, name)
			require.True(t, ctx.lost.Load(), "%s: %s", what, name)
			claim, _ := once.FromContext(ctx)
			require.True(t, claim.Lost, "%s: %s", what, name)
			require.ErrorIs(t, context.Cause(ctx), errLeaseOver)
			ctx.seenAlive(time.Now())
			require.ErrorIs(t, ctx.Err(), context.Canceled, "what is over stays over")
		}
	}
}

func TestBodyContext_JudgesTheDeadlineWhenItIsAsked(t *testing.T) {
	t.Parallel()
	for name, age := range agesBy(time.Hour) {
		attempt, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		ctx := claimed(attempt)
		want, _ := attempt.Deadline()
		got, ok := ctx.Deadline()
		require.True(t, ok)
		require.Equal(t, want, got, "while it is held, the attempt's")
		require.NoError(t, ctx.Err())
		derived, cancel := context.WithCancel(ctx)
		defer cancel()

		ctx.began = age(ctx.began)
		require.Nil(t, derived.Value("any"))
		require.Error(t, derived.Err(), name)
		require.Equal(t, context.DeadlineExceeded, ctx.Err(), name)
		require.Equal(t, context.DeadlineExceeded, context.Cause(ctx), name)
		got, _ = ctx.Deadline()
		require.LessOrEqual(t, time.Until(got), time.Duration(0), name)
		claim, _ := once.FromContext(ctx)
		require.False(t, claim.Lost, "the claim is still this call's")
		past := age(*ctx.alive.Load())
		ctx.alive.Store(&past)
		claim, _ = once.FromContext(ctx)
		require.True(t, claim.Lost, "and now it is not")
	}
}

func TestBodyContext_KeepsTheAttemptsOwnEnd(t *testing.T) {
	t.Parallel()
	attempt, cancel := context.WithCancelCause(t.Context())
	ctx := claimed(attempt)
	cancel(errSuperseded)
	require.Equal(t, context.Canceled, ctx.Err())
	require.Equal(t, errSuperseded, context.Cause(ctx))
	_, ok := ctx.Deadline()
	require.False(t, ok)
	require.Equal(t, context.DeadlineExceeded, claimed(expired(t)).Err())
}

// expired is a context whose deadline has passed.
func expired(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 0)
	t.Cleanup(cancel)
	return ctx
}

func TestBodyContext_JudgesNothingOnceTheBodyHasReturned(t *testing.T) {
	t.Parallel()
	ctx := claimed(t.Context())
	_, err := (&lease{body: ctx}).run(ctx, func(context.Context) (any, error) { return "done", nil })
	require.NoError(t, err)
	past := instant{}
	ctx.alive.Store(&past)
	require.NoError(t, ctx.Err())
	require.False(t, ctx.lost.Load())

	require.Panics(t, func() {
		ctx = claimed(t.Context())
		_, _ = (&lease{body: ctx}).run(ctx, func(context.Context) (any, error) { panic("no result") })
	})
	ctx.alive.Store(&past)
	require.NoError(t, ctx.Err())
}

// An error that is returned after the end came after the end, whoever was to say
// so first.
func TestBodyContext_JudgesWhenTheBodyFails(t *testing.T) {
	t.Parallel()
	ctx := claimed(t.Context())
	_, err := (&lease{body: ctx}).run(ctx, func(context.Context) (any, error) {
		past := instant{}
		ctx.alive.Store(&past)
		return nil, errSuperseded
	})
	require.Error(t, err)
	require.Error(t, ctx.Err())
}

// Without a goroutine for each: all are canceled by the time that the look returns.
func TestBodyContext_WhatIsDerivedHangsOnItDirectly(t *testing.T) {
	t.Parallel()
	ctx := claimed(t.Context())
	var derived []context.Context
	for range 1000 {
		child, cancel := context.WithCancel(context.WithValue(ctx, instant{}, "wrapped"))
		defer cancel()
		derived = append(derived, child)
	}
	past := instant{}
	ctx.alive.Store(&past)
	_ = ctx.Value("any")
	for _, child := range derived {
		require.ErrorIs(t, context.Cause(child), errLeaseOver)
	}
}

// Mocks print what they are called with, while the claim is renewed.
func TestBodyContext_IsPrintedAsOtherContextsAre(t *testing.T) {
	t.Parallel()
	ctx := claimed(t.Context())
	var renewals sync.WaitGroup
	renewals.Go(func() { ctx.seenAlive(time.Now()) })
	require.Equal(t, fmt.Sprint(ctx.Context), fmt.Sprint(ctx))
	renewals.Wait()
}

func TestBodyContext_ALookAllocatesNothing(t *testing.T) { //nolint:paralleltest // it counts allocations
	attempt, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	ctx := claimed(attempt)
	var key any = "any"
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		_, _ = ctx.Deadline()
		_, _, _ = ctx.Err(), ctx.Done(), ctx.Value(key)
	}))
}

func BenchmarkBodyContext(b *testing.B) {
	attempt, cancel := context.WithTimeout(b.Context(), time.Hour)
	defer cancel()
	for name, ctx := range map[string]context.Context{"attempt": attempt, "body": claimed(attempt)} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				_ = ctx.Value(b)
			}
		})
	}
}
