package atmostonce_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

var (
	errDeclined = errors.New("declined")
	errLimit    = errors.New("over the limit")
)

// byValue, byPointer and secretive are failures of types; the last one keeps what JSON
// does not see.
type byValue struct{ Code int }

func (e byValue) Error() string { return fmt.Sprintf("code %d", e.Code) }

type byPointer struct{ Code int }

func (e *byPointer) Error() string { return fmt.Sprintf("code %d", e.Code) }

type secretive struct{ code int }

func (e secretive) Error() string { return "the bank refuses, with a code of its own" }
func (e secretive) Code() int     { return e.code }

type mute struct{}

func (*mute) Error() string { panic("no words") }

// fails returns the error that the first call gets, and that of a duplicate in a process
// that lists others.
func fails(t *testing.T, err error, first, later []error) (now, again error) {
	t.Helper()
	s := store.NewMemory(store.MemoryOptions{})
	p := under(func(p *once.Policy) { p.OnFailure = once.Lock })
	runs := 0
	body := func(context.Context, event) (receipt, error) { runs++; return receipt{}, err }
	_, now = atmostonce.Func(newGuardOver(t, s, atmostonce.Options{Errors: first}), "charge", p, body)(t.Context(), event{ID: "7"})
	_, again = atmostonce.Func(newGuardOver(t, s, atmostonce.Options{Errors: later}), "charge", p, body)(t.Context(), event{ID: "7"})
	require.Equal(t, 1, runs)
	require.EqualError(t, again, now.Error())
	require.False(t, atmostonce.MayHaveHappened(again))
	return now, again
}

func TestFailure_ComesBackAsWhatItWas(t *testing.T) {
	t.Parallel()
	all := []error{errDeclined, errLimit, byValue{}, (*byPointer)(nil), io.ErrNoProgress}
	for name, err := range map[string]error{
		"a sentinel":             errDeclined,
		"a sentinel, wrapped":    fmt.Errorf("card 4711: %w", errDeclined),
		"two, joined":            errors.Join(errDeclined, errLimit),
		"a type by value":        byValue{51},
		"a type by pointer":      &byPointer{51},
		"a type, wrapped":        fmt.Errorf("card 4711: %w", &byPointer{51}),
		"a type and a sentinel":  fmt.Errorf("card 4711: %w, %w", byValue{51}, errDeclined),
		"one of another package": io.ErrNoProgress,
	} {
		now, again := fails(t, err, all, all)
		require.EqualError(t, now, err.Error(), name)
		for _, got := range []error{now, again} {
			for _, sentinel := range []error{errDeclined, errLimit, io.ErrNoProgress} {
				require.Equal(t, errors.Is(err, sentinel), errors.Is(got, sentinel), "%s: %v", name, sentinel)
			}
			var v, wantV byValue
			require.Equal(t, errors.As(err, &wantV), errors.As(got, &v), name)
			require.Equal(t, wantV, v)
			var p, wantP *byPointer
			require.Equal(t, errors.As(err, &wantP), errors.As(got, &p), name)
			require.Equal(t, wantP, p)
			failure := (*atmostonce.Failure)(nil)
			require.NotErrorAs(t, got, &failure, name)
		}
	}
}

func TestFailure_IsNeverALie(t *testing.T) {
	t.Parallel()
	const here = "github.com/atmostonce/atmostonce_test."
	all := []error{errDeclined, byValue{}, &byPointer{}, secretive{}}
	for name, c := range map[string]struct {
		err          error
		first, later []error
		is           string
	}{
		"unknown":                          {errLimit, all, all, ""},
		"of an unknown type":               {byValue{51}, nil, nil, here + "byValue"},
		"of an unknown type by pointer":    {&byPointer{51}, nil, nil, "*" + here + "byPointer"},
		"with what the codec does not see": {secretive{51}, all, all, here + "secretive"},
		"a sentinel of another text":       {fmt.Errorf("declined"), all, all, ""},
		"known where it was recorded":      {byValue{51}, all, nil, here + "byValue"},
		"a sentinel known there":           {errDeclined, all, nil, ""},
		"known elsewhere":                  {byValue{51}, nil, all, here + "byValue"},
		"by pointer, known by value":       {&byValue{51}, nil, nil, "*" + here + "byValue"},
	} {
		_, again := fails(t, c.err, c.first, c.later)
		var failure *atmostonce.Failure
		require.ErrorAs(t, again, &failure, name)
		require.Equal(t, c.is, failure.Type, name)
		require.NotErrorIs(t, again, errDeclined, name)
	}
	_, again := fails(t, errors.New(strings.Repeat("ü", 1<<20)), nil, nil)
	require.Less(t, len(again.Error()), 5000, "a text is cut")
}

func TestFailure_WithoutWordsIsInDoubt(t *testing.T) {
	t.Parallel()
	for _, p := range []once.FailurePolicy{once.Unlock, once.Lock, once.Doubt} {
		g := newGuard(t, atmostonce.Options{Defaults: once.Policy{OnFailure: p}, Errors: []error{&byPointer{}, (*mute)(nil)}})
		charge := atmostonce.Func(g, "charge", byID, func(context.Context, event) (receipt, error) { return receipt{}, (*mute)(nil) })
		for range 2 {
			_, err := charge(t.Context(), event{ID: "7"})
			requireRefusal(t, err, once.InDoubt)
			require.ErrorContains(t, err, "an error that does not say what it is")
		}
		require.NoError(t, g.Close(t.Context()))
	}
}

// Another build may have another type of that name: what the record says counts.
func TestFailure_OfATypeThatHasChanged(t *testing.T) {
	t.Parallel()
	s := store.NewMemory(store.MemoryOptions{})
	p := under(func(p *once.Policy) { p.OnFailure = once.Lock })
	body := func(context.Context, event) (receipt, error) { return receipt{}, byValue{51} }
	_, err := atmostonce.Func(newGuardOver(t, s, atmostonce.Options{Errors: []error{byValue{}}}), "charge", p, body)(t.Context(), event{ID: "7"})
	require.ErrorAs(t, err, &byValue{})
	forgets := atmostonce.Options{Errors: []error{byValue{}}, Codec: forgetful{}}
	_, err = atmostonce.Func(newGuardOver(t, s, forgets), "charge", p, body)(t.Context(), event{ID: "7"})
	failure := (*atmostonce.Failure)(nil)
	require.ErrorAs(t, err, &failure)
	require.EqualError(t, err, "code 51")
}

// forgetful decodes a byValue as another build would that has named the field anew.
type forgetful struct{ atmostonce.JSON }

func (f forgetful) Decode(data []byte, ptr any) error {
	if _, ok := ptr.(*byValue); ok {
		return nil
	}
	return f.JSON.Decode(data, ptr)
}

// brokenCodec panics, or fails, where it is told to.
type brokenCodec struct {
	atmostonce.JSON
	encode, decode func() error
}

func (b brokenCodec) Encode(v any) ([]byte, error) {
	if b.encode != nil {
		if err := b.encode(); err != nil {
			return nil, err
		}
	}
	return b.JSON.Encode(v)
}

func (b brokenCodec) Decode(data []byte, ptr any) error {
	if b.decode != nil {
		if err := b.decode(); err != nil {
			return err
		}
	}
	return b.JSON.Decode(data, ptr)
}

func TestCodec_ThatBreaksIsARefusal(t *testing.T) {
	t.Parallel()
	for name, breaks := range map[string]func() error{
		"fails":  func() error { return errors.New("no key") },
		"panics": func() error { panic("no key") },
	} {
		s := store.NewMemory(store.MemoryOptions{})
		p := under(func(p *once.Policy) { p.OnFailure = once.Lock })
		runs := 0
		body := func(_ context.Context, in event) (receipt, error) {
			if runs++; in.Note == "fails" {
				return receipt{}, errDeclined
			}
			return receipt{"ch"}, nil
		}
		good := atmostonce.Func(newGuardOver(t, s, atmostonce.Options{}), "charge", p, body)
		noDecode := atmostonce.Func(newGuardOver(t, s, atmostonce.Options{Codec: brokenCodec{decode: breaks}}), "charge", p, body)
		noEncode := atmostonce.Func(newGuardOver(t, s, atmostonce.Options{Codec: brokenCodec{encode: breaks}}), "charge", p, body)

		_, err := good(t.Context(), event{ID: "1"})
		require.NoError(t, err)
		_, err = noDecode(t.Context(), event{ID: "1"})
		e := refusalOf(t, err, once.BadRecord)
		require.Positive(t, e.RetryAfter, name)
		_, err = noEncode(t.Context(), event{ID: "2"})
		requireRefusal(t, err, once.OutcomeNotKept)
		_, err = noEncode(t.Context(), event{ID: "3", Note: "fails"})
		require.ErrorIs(t, err, errDeclined, "its own caller gets it")
		_, err = good(t.Context(), event{ID: "3", Note: "fails"})
		requireRefusal(t, err, once.OutcomeNotKept)
		require.Equal(t, 3, runs)
	}
}

// hollow is an error whose methods need a value.
type hollow struct {
	cause error
	kind  string
}

func (h *hollow) Error() string { return h.kind }
func (h *hollow) Unwrap() error { return h.cause }
func (h *hollow) Type() string  { return h.kind }

func TestFailure_ThatIsANilPointerIsInDoubt(t *testing.T) {
	t.Parallel()
	for _, p := range []once.FailurePolicy{once.Unlock, once.Lock, once.Doubt} {
		for _, err := range []error{(*hollow)(nil), fmt.Errorf("charge: %w", &hollow{(*hollow)(nil), "k"}), errors.Join(errDeclined, fmt.Errorf("b: %w", (*hollow)(nil)))} {
			g := newGuard(t, atmostonce.Options{Defaults: once.Policy{OnFailure: p, InDoubt: once.Rerun}})
			charge := atmostonce.Func(g, "charge", byID, func(context.Context, event) (receipt, error) { return receipt{}, err })
			_, got := charge(t.Context(), event{ID: "7"})
			requireRefusal(t, got, once.InDoubt)
			stepped := atmostonce.Func(g, "stepped", byID, func(ctx context.Context, _ event) (receipt, error) {
				return atmostonce.Step(ctx, "charge", func(context.Context) (receipt, error) { return receipt{}, err })
			})
			_, got = stepped(t.Context(), event{ID: "7"})
			requireRefusal(t, got, once.InDoubt)
			require.NoError(t, g.Close(t.Context()))
		}
	}
}
