package main

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce/once"
)

func TestNightly_MailsOnceForADate(t *testing.T) {
	t.Parallel()
	dir, mails := t.TempDir(), 0
	count := func(_ context.Context, date string) (Report, error) {
		mails++
		return Report{Date: date, Mail: "mail"}, nil
	}
	for range 3 {
		require.NoError(t, run(t.Context(), dir, "2026-01-31", count))
	}
	require.Equal(t, 1, mails)
	require.NoError(t, run(t.Context(), dir, "2026-02-01", count))
	require.Equal(t, 2, mails)
}

func TestNightly_LeavesADoubtToAPerson(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lost := func(context.Context, string) (Report, error) {
		return Report{}, once.MaybeDone(errors.New("the mail server has gone"))
	}
	require.ErrorIs(t, run(t.Context(), dir, "2026-01-31", lost), once.InDoubt)
	require.ErrorIs(t, run(t.Context(), dir, "2026-01-31", mail), once.InDoubt, "it is not mailed again")
}
