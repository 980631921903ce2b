package main

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

func openRecords(t *testing.T) store.Store {
	t.Helper()
	records, err := store.NewFile(t.TempDir(), store.FileOptions{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, records.Close()) })
	return records
}

func TestNightly_MailsOnceForADate(t *testing.T) {
	t.Parallel()
	records, mails := openRecords(t), 0
	count := func(_ context.Context, date string) (Report, error) {
		mails++
		return Report{Date: date, Mail: "mail"}, nil
	}
	for range 3 {
		require.NoError(t, run(t.Context(), records, "2026-01-31", count))
	}
	require.Equal(t, 1, mails)
	require.NoError(t, run(t.Context(), records, "2026-02-01", count))
	require.Equal(t, 2, mails)
}

func TestNightly_LeavesADoubtToAPerson(t *testing.T) {
	t.Parallel()
	records := openRecords(t)
	lost := func(context.Context, string) (Report, error) {
		return Report{}, once.MaybeDone(errors.New("the mail server has gone"))
	}
	require.ErrorIs(t, run(t.Context(), records, "2026-01-31", lost), once.InDoubt)
	err := run(t.Context(), records, "2026-01-31", mail)
	require.ErrorIs(t, err, once.InDoubt, "it is not mailed again")
	var refused *atmostonce.Error
	require.ErrorAs(t, err, &refused)
	require.ErrorIs(t, decide(t.Context(), records, refused.Key, Report{}), resolve.ErrTooEarly, "it may be mailed yet")
	require.NoError(t, decide(t.Context(), records, refused.Key, Report{"2026-01-31", "mail-1"}))
	require.NoError(t, run(t.Context(), records, "2026-01-31", lost), "it is not mailed again")
}
