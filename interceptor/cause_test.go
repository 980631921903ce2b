package interceptor

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/atmostonce/atmostonce/store"
)

func TestCause_IsWhatTemporalWouldGet(t *testing.T) {
	t.Parallel()
	c := codec{converters: newConverters(nil, nil), where: targetOf(infoOf("order-7"))}
	for name, err := range map[string]error{
		"plain":       io.ErrUnexpectedEOF,
		"application": temporal.NewApplicationError("declined", "Declined", 7),
		"wrapped":     errors.Join(errors.New("call 7"), temporal.NewApplicationError("declined", "Declined")),
		"network":     &net.OpError{Op: "read", Net: "tcp", Err: io.EOF},
	} {
		o := c.doubt(t.Context(), err)
		require.Equal(t, store.InDoubt, o.State, name)
		want := temporal.GetDefaultFailureConverter().ErrorToFailure(err)
		got := temporal.GetDefaultFailureConverter().ErrorToFailure(c.cause(t.Context(), o))
		require.Equal(t, want.GetMessage(), got.GetMessage(), name)
		require.Equal(t, want.GetApplicationFailureInfo().GetType(), got.GetApplicationFailureInfo().GetType(), name)
	}
	for _, err := range []error{temporal.NewCanceledError(), context.Canceled, context.DeadlineExceeded} {
		cause := c.cause(t.Context(), c.doubt(t.Context(), err))
		require.ErrorContains(t, cause, err.Error())
		require.False(t, temporal.IsCanceledError(cause), "it is another call's")
	}
}

func TestCause_IsBounded(t *testing.T) {
	t.Parallel()
	for name, conv := range map[string]*converters{"plain": newConverters(nil, nil), "sealed": sealedCauses()} {
		c := codec{converters: conv, where: targetOf(infoOf("order-7"))}
		for _, text := range []string{strings.Repeat("x", 1<<20), strings.Repeat("\x00\"", 1<<16), strings.Repeat("ü", 1<<15), "\xff\xfe", ""} {
			o := c.doubt(t.Context(), temporal.NewApplicationError(text, strings.Repeat("Type", 1000)))
			require.NotEmpty(t, o.Data, name)
			require.LessOrEqual(t, len(o.Data), maxCause, name)
			app := (*temporal.ApplicationError)(nil)
			require.ErrorAs(t, c.cause(t.Context(), o), &app, name)
			require.True(t, utf8.ValidString(app.Message()))
			require.True(t, strings.HasPrefix(text, app.Message()))
			require.True(t, strings.HasPrefix(app.Type(), "TypeType"))
		}
	}
}

// sealedCauses encrypt what Temporal's own failure converter encrypts on request,
// for each workflow otherwise.
func sealedCauses() *converters {
	dc := sealedConverters().data
	return newConverters(dc, boundFailures{dc: dc})
}

func TestCause_IsEncryptedWhereFailuresAre(t *testing.T) {
	t.Parallel()
	conv := sealedCauses()
	o := codec{converters: conv, where: targetOf(infoOf("order-7"))}.doubt(t.Context(), temporal.NewApplicationError("card 4711 was not charged", "Reset"))
	require.NotEmpty(t, o.Data)
	require.NotContains(t, string(o.Data), "4711")
	other := codec{converters: conv, where: targetOf(infoOf("order-8"))}.cause(t.Context(), o)
	require.ErrorContains(t, other, "card 4711 was not charged")
}

// neverFails is a failure converter that panics, as Temporal's does where it
// cannot encode.
type neverFails struct{ converter.FailureConverter }

func (neverFails) ErrorToFailure(error) *failurepb.Failure { panic("cannot encode") }
func (neverFails) FailureToError(*failurepb.Failure) error { panic("cannot decode") }

func TestCause_ThatCannotBeKeptIsLeftOut(t *testing.T) {
	t.Parallel()
	bad, good := codec{converters: newConverters(nil, neverFails{}), where: targetOf(infoOf("order-7"))}, codec{converters: newConverters(nil, nil), where: targetOf(infoOf("order-7"))}
	require.Equal(t, store.Outcome{State: store.InDoubt}, bad.doubt(t.Context(), io.EOF))
	o := good.doubt(t.Context(), io.EOF)
	require.NoError(t, bad.cause(t.Context(), o))
	require.NoError(t, good.cause(t.Context(), store.Outcome{State: store.InDoubt}))
	require.NoError(t, good.cause(t.Context(), store.Outcome{State: store.Failed, Data: o.Data}))
	o.Data = []byte("\xff")
	require.NoError(t, good.cause(t.Context(), o))
}
