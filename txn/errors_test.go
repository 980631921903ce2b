package txn

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

type stateError string

func (e stateError) Error() string    { return string(e) }
func (e stateError) SQLState() string { return string(e) }

type numberError struct{ Number uint16 }

func (e *numberError) Error() string { return fmt.Sprint(e.Number) }

func TestTroubleOf_KnowsTheDriversErrors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err      error
		want     trouble
		answered bool
	}{
		{nil, unknownTrouble, false},
		{io.ErrUnexpectedEOF, unknownTrouble, false},
		{fmt.Errorf("transfer: %w", stateError("40001")), conflict, true},
		{errors.Join(io.EOF, stateError("40P01")), conflict, true},
		{stateError("23505"), duplicateKey, true},
		{stateError("57P01"), unknownTrouble, false},
		{stateError("08006"), unknownTrouble, false},
		{&numberError{1213}, conflict, true},
		{&numberError{1062}, duplicateKey, true},
		{&numberError{1146}, noTable, true},
	} {
		require.Equal(t, tc.want, troubleOf(tc.err), "%v", tc.err)
		require.Equal(t, tc.answered, answered(tc.err), "%v", tc.err)
	}
}

func TestDo_OutsideOfAGuardedCall(t *testing.T) {
	t.Parallel()
	_, err := Do[int](t.Context(), &DB{}, nil)
	require.ErrorIs(t, err, ErrUnguarded)
}
